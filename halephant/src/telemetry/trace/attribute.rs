//! Names of span attributes: those of the database conventions, and ours.

pub const DB_SYSTEM_NAME: &str = "db.system.name";
pub const POSTGRESQL: &str = "postgresql";
pub const DB_NAMESPACE: &str = "db.namespace";
pub const DB_QUERY_SUMMARY: &str = "db.query.summary";
pub const DB_QUERY_TEXT: &str = "db.query.text";
pub const DB_RESPONSE_STATUS_CODE: &str = "db.response.status_code";
pub const DB_USER: &str = "db.user";
pub const POOL_NAME: &str = "db.client.connection.pool.name";
pub const SERVER_ADDRESS: &str = "server.address";
pub const SERVER_PORT: &str = "server.port";
pub const CLIENT_ADDRESS: &str = "client.address";
pub const CLIENT_PORT: &str = "client.port";
pub const ERROR_TYPE: &str = "error.type";
pub const CLUSTER: &str = "halephant.cluster";
pub const CLIENT_PROCESS_ID: &str = "halephant.client.process_id";
pub const END_REASON: &str = "halephant.session.end_reason";
