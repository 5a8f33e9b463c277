"""Makes schemas at these levels by the newest SDK's own migrations, cut off there: level_100 and so on."""

import sys

import sqlalchemy
from dbos import _migration as sdk

url, levels = sys.argv[1], sys.argv[2:]
engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
every = sdk.get_dbos_migrations
for level in levels:
    sdk.get_dbos_migrations = lambda *arguments: every(*arguments)[: int(level)]
    sdk.ensure_dbos_schema(engine, f"level_{level}")
    sdk.run_dbos_migrations(engine, f"level_{level}", True)
