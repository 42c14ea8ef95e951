-- Which spool has the file of an object, by its mark, '' for the only one there was: nodes that share a store have one each, and only
-- who removes a file may say that it has gone.

alter table object add column spool {text} not null default '';
