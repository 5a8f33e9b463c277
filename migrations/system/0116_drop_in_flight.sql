-- Level 116, online: its predecessor.

DROP INDEX CONCURRENTLY IF EXISTS {schema}.idx_workflow_status_in_flight;
