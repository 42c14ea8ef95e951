-- What stands for what at a destination that may not know it: the way back from a de-identified object.

create table pseudonym (
    destination {text} not null,
    kind {text} not null,                       -- patient, uid
    original {text} not null,
    pseudonym {text} not null,
    first_at double precision not null,         -- seconds since the epoch
    primary key (destination, pseudonym)
);
create index pseudonym_original on pseudonym (original);
