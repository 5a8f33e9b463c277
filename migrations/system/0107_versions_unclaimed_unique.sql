-- Level 107, online: and among those that no application owns, which are all the old ones.

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uq_application_versions_unclaimed_version
    ON {schema}.application_versions (version_name)
    WHERE application_name IS NULL;
