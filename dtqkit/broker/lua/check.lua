-- Check the owner only, which record.lua does at the beginning of every script.
return 1
