-- Prior studies to be fetched ahead of an exam: one row for each exam and rule.

create table prefetch (
    id {id},
    exam_id bigint not null,
    accession {text} not null,
    rule {text} not null,                       -- its name under prefetch: in channels.yaml
    starts {text} not null,                     -- YYYYMMDDHHMM, site time: when it is to be done
    -- waiting:   to be done, or being done
    -- done:      everything that was wanted is there
    -- late:      given up, as the exam is long over
    -- cancelled: the exam will not take place
    state {text} not null default 'waiting',
    attempts bigint not null default 0,
    again_at double precision not null default 0, -- seconds since the epoch
    reason {text} not null default '',          -- why the last attempt failed; free of patient data
    moved {text} not null default '[]'          -- JSON: the Study Instance UIDs that are there by now
);
create unique index prefetch_exam on prefetch (exam_id, rule);
create index prefetch_waiting on prefetch (starts) where state = 'waiting';
