-- Whether the images of an exam are all here, and where they are available; one row from an exam's first image on.

create table completeness (
    id {id},
    exam_id bigint not null default 0,
    state {text} not null default '',
    reason {text} not null default '',
    at double precision not null default 0,
    heard_at double precision not null default 0,
    closed_at double precision not null default 0,
    due_at double precision not null default 0,
    named bigint not null default 0,
    images bigint not null default 0,
    available_at double precision not null default 0,
    available {text} not null default '',
    retrieve_ae {text} not null default '',
    delivered {text} not null default '[]'
);
create index completeness_exam on completeness (exam_id);
create index completeness_due on completeness (due_at) where due_at > 0;

create table evidence (
    id {id},
    exam_id bigint not null default 0,
    source {text} not null default '',
    subject {text} not null default '',
    named bigint not null default 0,
    missing {text} not null default '[]',
    at double precision not null default 0
);
create index evidence_exam on evidence (exam_id);
