"""What happens to a job: each change is written to the record, then its id is put where it belongs and it is announced.

One module a verb. Nothing above this floor knows where an id stands in Redis, by which score, or what an event of a
change says; and to none of the verbs it is an error that Redis is away, since the record has the change.
"""
