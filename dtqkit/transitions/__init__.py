"""What happens to a job: each change is written to the record, then its id is put where it belongs and it is announced.

One module per transition. No module of a higher layer knows where an id is in Redis, its score, or the content of an
event. An unreachable Redis is not an error for a transition, since the record has the change.
"""
