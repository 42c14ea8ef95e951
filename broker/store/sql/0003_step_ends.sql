-- The end of each step's slot, so that the search for a gap reads only the steps that end after the time it looks from.
-- A slot ends on the day it begins; the second line of the sum is the minute of that day.

alter table steps add column ends {text} not null default '';
update steps
   set ends = substr(start, 1, 8)
              || substr(cast(100 + (cast(substr(start, 9, 2) as bigint) * 60 + cast(substr(start, 11, 2) as bigint)
                                    + case when duration > 1 then duration else 1 end) / 60 as varchar(3)), 2, 2)
              || substr(cast(100 + (cast(substr(start, 9, 2) as bigint) * 60 + cast(substr(start, 11, 2) as bigint)
                                    + case when duration > 1 then duration else 1 end) % 60 as varchar(3)), 2, 2)
 where length(start) >= 12;
create index steps_slot on steps (station, ends);
