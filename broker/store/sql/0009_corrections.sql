-- What a person has said about images that named no known exam, or the wrong one.

alter table exams add column accession_issuer {text} not null default '';
alter table instances add column reissue {text} not null default '';
alter table instances add column released bigint not null default 0;
alter table unmatched add column patient_id {text} not null default '';
alter table unmatched add column issuer {text} not null default '';
alter table unmatched add column modality {text} not null default '';
alter table unmatched add column taken_at {text} not null default '';
alter table unmatched add column "window" bigint not null default 0;
alter table unmatched add column corrected bigint not null default 0;
create index unmatched_open_patient on unmatched (patient_id) where resolved_at is null and patient_id <> '';

create table corrections (
    id {id},
    what {text} not null default '',            -- linked, corrected, released, moved
    entry_id bigint,                            -- of unmatched
    study_uid {text} not null default '',
    exam_id bigint,
    from_exam_id bigint,
    instances {text} not null default '[]',
    before {text} not null default '[]',
    author {text} not null default '',
    why {text} not null default '',             -- free of patient data
    at double precision not null default 0,
    undone_at double precision
);
create index corrections_study on corrections (study_uid);
create index corrections_entry on corrections (entry_id) where entry_id is not null;

-- the objects of a study follow the first one; the second column keeps that one at hand in a study of thousands
create index instances_of_study on instances (study_uid, id);
drop index instances_study;

-- a query finds what is still in the spool by what the images say of themselves; what has left it costs nothing
create index instances_kept_patient on instances (sent_patient_id) where spool <> '';
create index instances_kept_accession on instances (accession) where spool <> '';
