// Node-RED as it comes, without its editor; the function node gets a pool of ten connections, as the collector has.
const pg = require(`${process.env.NODE_RED_FOLDER}/node_modules/pg`);

module.exports = {
  uiHost: '127.0.0.1',
  uiPort: Number(process.env.NODE_RED_PORT),
  httpAdminRoot: false,
  httpNodeRoot: false,
  flowFile: 'flows.json',
  credentialSecret: false,
  functionGlobalContext: { pool: new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 }) },
  logging: { console: { level: 'info', metrics: false, audit: false } },
  telemetry: { enabled: false },
};
