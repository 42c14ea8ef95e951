-- What a modality's worklist tells beside who, what and when; and indexes that give the entries of a day in their order.

alter table patients add column allergies {text} not null default '[]';
alter table patients add column alerts {text} not null default '[]';
alter table orders add column weight {text} not null default '';
alter table orders add column size {text} not null default '';
alter table orders add column pregnancy {text} not null default '';
alter table orders add column patient_state {text} not null default '';
alter table orders add column special_needs {text} not null default '';
alter table orders add column transport {text} not null default '';
alter table orders add column contrast {text} not null default '';
alter table orders add column confidentiality {text} not null default '';
alter table orders add column vip {text} not null default '';
alter table orders add column history {text} not null default '';
alter table orders add column performer {text} not null default '';

-- in place of steps_station and steps_start: the states that a worklist leaves out are most of a store that is years old
create index steps_worklist on steps (station, status, start);
create index steps_modality on steps (modality, status, start);
drop index steps_station;
drop index steps_start;
