-- Only the metrics counted by it, and they count what is under way along another index now.

DROP INDEX analyses_by_status;
