-- What arrived and what leaves. {id}, {text} and {blob} are spelled by the engine.

create table message (
    id {id},
    received_at double precision not null,      -- seconds since the epoch
    answered_at double precision,               -- null while no answer is due
    listener {text} not null,
    protocol {text} not null,                   -- hl7, dicom, ris
    kind {text} not null,                       -- ORM^O01, C-STORE
    sender {text} not null,
    peer {text} not null,
    control_id {text} not null,                 -- MSH-10, SOP Instance UID
    digest {text} not null,                     -- hex, of the content
    spool {text} not null default '',           -- name of the object in the spool
    -- received:  kept, nothing decided
    -- routed:    at least one channel took it, its deliveries are in `delivery`
    -- dropped:   every channel that took it dropped it on purpose
    -- parked:    kept for a person, who may send it again
    -- refused:   answered that it is not for us or cannot be applied
    -- answered:  a request that ends with its answer (a query)
    state {text} not null,
    reason {text} not null default '',          -- why it was dropped, parked or refused; free of patient data
    accession {text} not null default '',
    answer {blob} not null,                     -- as sent back; empty while there is none
    raw {blob} not null                         -- as received; empty when it is in the spool
);
create index message_received on message (received_at);
create index message_control on message (sender, control_id);
create index message_accession on message (accession) where accession <> '';
create index message_spool on message (spool) where spool <> '';
create index message_parked on message (id) where state = 'parked';
create index message_refused on message (id) where state = 'refused';

-- Which patients a message was about; what leads from an accession to its patient's registration.
create table message_patient (
    message_id bigint not null,
    patient_id bigint not null,
    primary key (patient_id, message_id)
);

create table delivery (
    id {id},                                    -- grows in the order of the commits; a lane is sent in this order
    message_id bigint not null,
    destination {text} not null,
    lane {text} not null,
    channel {text} not null,
    kind {text} not null,
    control_id {text} not null,
    accession {text} not null default '',
    -- waiting:   to be sent, or being sent
    -- delivered: the destination took it
    -- parked:    set aside for a person, who may send it again
    state {text} not null default 'waiting',
    attempts bigint not null default 0,         -- since it was queued or sent again by a person
    queued_at double precision not null,
    settled_at double precision,                -- when it was delivered or parked
    answer {text} not null default '',          -- AA, 0x0000
    reason {text} not null default '',          -- why the last attempt failed; free of patient data
    payload {blob} not null
);
create index delivery_waiting on delivery (destination, id) where state = 'waiting';
create index delivery_parked on delivery (id) where state = 'parked';
create index delivery_message on delivery (message_id);
create index delivery_accession on delivery (accession) where accession <> '';

-- Which node sends for a destination; one row per destination, valid until the time it names.
create table queue_lease (
    destination {text} primary key,
    node {text} not null,
    until double precision not null             -- seconds since the epoch
);

-- What happened to an accession besides messages and deliveries: one line of its timeline each.
create table audit_note (
    id {id},
    accession {text} not null,
    at double precision not null,
    what {text} not null,                       -- exam.scheduled, worklist
    kind {text} not null,
    source {text} not null,
    target {text} not null,
    message_id bigint,
    detail {text} not null                      -- free of patient data
);
create index audit_note_accession on audit_note (accession);
