-- Events that the Reader read.
insert into event by name select * from read
