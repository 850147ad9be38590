"""What a group of batches changes: batches -> people, devices, history. Pure: no clock, no I/O.

fold           decides what each batch changes
totals_fold    the same in totals-only mode
history        computes the seconds that a batch adds to each minute
arrival_order  orders the batches of a device whose timestamps were replaced
tombstones     removes erased people from batches
outcome        what a message becomes if it is no batch: a status or a dead letter
"""
