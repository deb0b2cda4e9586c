-- Whether our record's jobs are listed here, or none yet: what every script begins with.
return 1
