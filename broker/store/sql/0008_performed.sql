-- Performed procedure steps in full: what they perform, the series they made, their attributes, and doses.

alter table performed add column modality {text} not null default '';
alter table performed add column reason_code {text} not null default '';
alter table performed add column reason_scheme {text} not null default '';
alter table performed add column reason {text} not null default '';
alter table performed add column outcome {text} not null default '';

create table performed_items (
    id {id},
    performed_id bigint not null,
    exam_id bigint,
    accession {text} not null default '',
    study_uid {text} not null default '',
    sps_id {text} not null default '',
    requested_procedure_id {text} not null default ''
);
create index performed_items_performed on performed_items (performed_id);
create index performed_items_exam on performed_items (exam_id) where exam_id is not null;
create index performed_items_accession on performed_items (accession);
create index performed_items_study on performed_items (study_uid);
insert into performed_items (performed_id, exam_id, accession, study_uid, sps_id)
select id, exam_id, accession, study_uid, sps_id from performed order by id;

create table performed_series (
    id {id},
    performed_id bigint not null,
    series_uid {text} not null default '',
    instances bigint not null default 0
);
create index performed_series_performed on performed_series (performed_id);
create index performed_series_uid on performed_series (series_uid);

create table performed_datasets (
    id {id},
    performed_id bigint not null,
    attributes {blob} not null                  -- explicit VR little endian
);
create index performed_datasets_performed on performed_datasets (performed_id);

create table doses (
    id {id},
    exam_id bigint,
    source {text} not null default '',          -- RDSR, MPPS
    report_uid {text} not null default '',
    event_uid {text} not null default '',
    scope {text} not null default '',
    study_uid {text} not null default '',
    accession {text} not null default '',
    modality {text} not null default '',
    at {text} not null default '',
    ctdivol double precision,                   -- mGy
    phantom {text} not null default '',
    dlp double precision,                       -- mGy.cm
    dap double precision,                       -- Gy.m2
    entrance double precision,                  -- mGy
    glandular double precision,                 -- mGy
    exposures bigint,
    message_id bigint not null default 0
);
create index doses_exam on doses (exam_id) where exam_id is not null;
create index doses_study on doses (study_uid);
create index doses_report on doses (report_uid);
create index doses_event on doses (event_uid) where event_uid <> '';
