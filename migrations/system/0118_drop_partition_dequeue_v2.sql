-- Level 118, online: its predecessor.

DROP INDEX CONCURRENTLY IF EXISTS {schema}.idx_workflow_status_partition_dequeue_v2;
