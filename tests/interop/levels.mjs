// Makes schemas by an SDK's own migrations: levels.mjs URL PACKAGE SCHEMA[=LEVEL]...; without a level, up to its newest one.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);
const [url, name, ...schemas] = process.argv.slice(2);
// Not exported by the packages, so reached by path.
const folder = join(dirname(require.resolve(name)), 'sysdb_migrations');
const { allMigrations } = require(join(folder, 'internal/migrations.js'));
const { runSysMigrationsPg } = require(join(folder, 'migration_runner.js'));
const { Client } = require('pg');

const client = new Client({ connectionString: url });
await client.connect();
for (const one of schemas) {
  const [schema, level] = one.split('=');
  const every = allMigrations(schema);
  const migrations = level ? every.slice(0, Number(level)) : every;
  await runSysMigrationsPg(client, migrations, schema, { onWarn: () => {} });
}
await client.end();
