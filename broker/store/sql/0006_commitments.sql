-- The objects of the spool, and storage commitment (PS3.4 annex J) on both sides.

-- One row for each object that was taken in; the row stays when the file has gone.
create table object (
    message_id bigint primary key,              -- the C-STORE it came by
    name {text} not null,                       -- in the spool
    uid {text} not null,                        -- SOP Instance UID
    sop_class {text} not null,                  -- "" of what an earlier broker took in
    size bigint not null,                       -- bytes of the file
    -- kept:      the file is in the spool
    -- deleted:   the file has gone, since everybody it was for has it
    state {text} not null default 'kept'
);
create index object_uid on object (uid);
create index object_kept on object (message_id) where state = 'kept';
insert into object (message_id, name, uid, sop_class, size)
select message.id, message.spool, message.control_id,
       coalesce((select max(sop_class) from instances where instances.spool = message.spool), ''),
       coalesce((select max(size) from instances where instances.spool = message.spool), 0)
  from message where message.spool <> '' and message.state <> 'refused';
update message set spool = '' where spool <> '' and state = 'refused';

-- What a modality has asked us to be responsible for.
create table commitment (
    id {id},
    sender {text} not null,                     -- calling AE title
    uid {text} not null,                        -- Transaction UID
    digest {text} not null,                     -- of the request
    listener {text} not null,
    queue {text} not null,                      -- of the deliveries that answer it
    accession {text} not null,
    message_id bigint not null,                 -- the N-ACTION
    -- waiting:   some instances are not decided
    -- answered:  the N-EVENT-REPORT is in the outbox
    state {text} not null,
    due_at double precision not null            -- seconds since the epoch; then what is not committed is told as failed
);
create unique index commitment_uid on commitment (sender, uid);
create index commitment_due on commitment (due_at) where state = 'waiting';
create table commitment_item (
    commitment_id bigint not null,
    place bigint not null,                      -- in the request, from 0
    uid {text} not null,                        -- SOP Instance UID
    sop_class {text} not null,
    -- waiting, committed, failed
    state {text} not null,
    reason bigint not null,                     -- Failure Reason (0008,1197), 0 without one
    primary key (commitment_id, place)
);
create index commitment_item_waiting on commitment_item (uid) where state = 'waiting';

-- What a destination that is asked for commitment has said of each instance it took: one row for each of the two.
create table receipt (
    id {id},
    destination {text} not null,
    uid {text} not null,                        -- SOP Instance UID, as it was delivered
    sop_class {text} not null,
    lane {text} not null,                       -- what is asked about together
    accession {text} not null,
    message_id bigint not null,                 -- the C-STORE that brought the object
    delivery_id bigint not null,                -- the C-STORE that took it there
    -- wanted:    delivered, to be asked about
    -- requested: named in an N-ACTION
    -- committed: the destination is responsible for it
    -- resent:    not committed, on its way there once more
    -- failed:    not committed once more: its delivery is parked for a person
    state {text} not null,
    transaction_uid {text} not null default '',
    request_id bigint not null default 0,       -- the delivery of that N-ACTION
    reason {text} not null default '',          -- why it was not committed
    resent bigint not null default 0,           -- how often the object was sent again
    at double precision not null                -- of the last change, seconds since the epoch
);
create unique index receipt_uid on receipt (uid, destination);
create index receipt_open on receipt (destination, state) where state <> 'committed';
create index receipt_message on receipt (message_id);
create index receipt_transaction on receipt (transaction_uid) where transaction_uid <> '';
create index receipt_wanted on receipt (destination, lane, id) where state = 'wanted';
create index receipt_requested on receipt (request_id) where state = 'requested';
