-- Moves the events after a record that holds more or fewer events than it had pieces.
update event
set place = event.place + shift.places, tag = event.tag + shift.places
from shift
where event.place between shift.first and shift.last
