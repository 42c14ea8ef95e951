-- The RIS records: one table per class of broker/ris/entities.py, one column per field, in its order.
-- A text is never null; tuples are JSON arrays; the states are in broker/ris/states.py.

create table patients (
    id {id},
    family {text} not null default '',
    given {text} not null default '',
    middle {text} not null default '',
    prefix {text} not null default '',
    suffix {text} not null default '',
    birth_date {text} not null default '',
    sex {text} not null default '',
    address {text} not null default '',
    phone {text} not null default '',
    account {text} not null default '',
    merged_into bigint
);
create index patients_merged on patients (merged_into) where merged_into is not null;

create table patient_identifiers (
    id {id},
    patient_id bigint not null,
    value {text} not null default '',
    authority {text} not null default '',
    type {text} not null default '',
    merged_from bigint
);
create index patient_identifiers_value on patient_identifiers (value, authority);
create index patient_identifiers_patient on patient_identifiers (patient_id);

create table orders (
    id {id},
    patient_id bigint not null,
    placer_number {text} not null default '',
    placer_authority {text} not null default '',
    filler_number {text} not null default '',
    filler_authority {text} not null default '',
    group_number {text} not null default '',
    status {text} not null default '',
    priority {text} not null default '',
    ordered_at {text} not null default '',
    requested_at {text} not null default '',
    provider {text} not null default '',
    copies_to {text} not null default '',
    procedure_code {text} not null default '',
    reason {text} not null default '',
    diagnoses {text} not null default '[]',
    patient_class {text} not null default '',
    location {text} not null default '',
    visit {text} not null default '',
    account {text} not null default ''
);
create index orders_placer on orders (placer_number, placer_authority);
create index orders_filler on orders (filler_number, filler_authority);
create index orders_patient on orders (patient_id);

create table exams (
    id {id},
    order_id bigint,
    patient_id bigint,
    accession {text} not null default '',
    requested_procedure_id {text} not null default '',
    study_uid {text} not null default '',
    procedure_code {text} not null default '',
    procedure_name {text} not null default '',
    modality {text} not null default '',
    cpt {text} not null default '',
    modifiers {text} not null default '[]',
    status {text} not null default '',
    report_status {text} not null default '',
    priority {text} not null default '',
    scheduled_at {text} not null default '',
    started_at {text} not null default '',
    completed_at {text} not null default '',
    images bigint not null default 0
);
create index exams_accession on exams (accession);
create index exams_study on exams (study_uid);
create index exams_order on exams (order_id);
create index exams_patient on exams (patient_id);
create index exams_procedure on exams (requested_procedure_id);
create index exams_status on exams (status);

create table steps (
    id {id},
    exam_id bigint not null,
    sps_id {text} not null default '',
    status {text} not null default '',
    modality {text} not null default '',
    station {text} not null default '',
    room {text} not null default '',
    start {text} not null default '',
    duration bigint not null default 0,
    protocol_code {text} not null default '',
    protocol_name {text} not null default ''
);
create index steps_exam on steps (exam_id);
create index steps_sps on steps (sps_id);
create index steps_station on steps (station, start);
create index steps_start on steps (start);
create index steps_status on steps (status, start);

create table performed (
    id {id},
    uid {text} not null default '',
    exam_id bigint,
    accession {text} not null default '',
    study_uid {text} not null default '',
    sps_id {text} not null default '',
    sent_patient_id {text} not null default '',
    sent_issuer {text} not null default '',
    status {text} not null default '',
    station {text} not null default '',
    started_at {text} not null default '',
    ended_at {text} not null default '',
    series bigint not null default 0,
    instances bigint not null default 0,
    message_id bigint not null default 0
);
create index performed_uid on performed (uid);
create index performed_exam on performed (exam_id);
create index performed_accession on performed (accession);
create index performed_study on performed (study_uid);

create table instances (
    id {id},
    uid {text} not null default '',
    series_uid {text} not null default '',
    study_uid {text} not null default '',
    exam_id bigint,
    accession {text} not null default '',
    sent_patient_id {text} not null default '',
    sent_issuer {text} not null default '',
    sop_class {text} not null default '',
    modality {text} not null default '',
    station {text} not null default '',
    spool {text} not null default '',
    size bigint not null default 0,
    digest {text} not null default '',
    message_id bigint not null default 0
);
create index instances_uid on instances (uid);
create index instances_study on instances (study_uid);
create index instances_exam on instances (exam_id);
create index instances_message on instances (message_id);
create index instances_spool on instances (spool) where spool <> '';

create table reports (
    id {id},
    exam_id bigint,
    accession {text} not null default '',
    placer_number {text} not null default '',
    study_uid {text} not null default '',
    sent_patient_id {text} not null default '',
    sent_issuer {text} not null default '',
    version bigint not null default 0,
    status {text} not null default '',
    text {text} not null default '',
    author {text} not null default '',
    diagnoses {text} not null default '[]',
    reported_at {text} not null default '',
    message_id bigint not null default 0
);
create index reports_exam on reports (exam_id);
create index reports_accession on reports (accession);
create index reports_placer on reports (placer_number);
create index reports_study on reports (study_uid);

create table charges (
    id {id},
    exam_id bigint not null,
    cpt {text} not null default '',
    modifiers {text} not null default '[]',
    diagnoses {text} not null default '[]',
    quantity bigint not null default 1,
    charged_at {text} not null default ''
);
create index charges_exam on charges (exam_id);

create table unmatched (
    id {id},
    kind {text} not null default '',
    key {text} not null default '',
    accession {text} not null default '',
    reason {text} not null default '',
    message_id bigint not null default 0,
    first_at double precision not null default 0,
    resolved_at double precision,
    exam_id bigint
);
create index unmatched_open_key on unmatched (key) where resolved_at is null;
create index unmatched_open_accession on unmatched (accession) where resolved_at is null;
create index unmatched_exam on unmatched (exam_id) where exam_id is not null;

-- What the search for a slot has learned: a station has no free gap of so many minutes between two times.
create table booked (
    id {id},
    station {text} not null default '',
    hours {text} not null default '',
    minutes bigint not null default 0,
    since {text} not null default '',
    until {text} not null default ''
);
create index booked_station on booked (station, hours);

-- Named counters, such as the accession numbers; `store` is no counter but what tells this store from every other one.
create table number_sequence (
    name {text} primary key,
    value bigint not null                       -- the last number given
);
