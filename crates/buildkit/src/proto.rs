//! The messages of BuildKit's services (`moby.buildkit.v1`, `moby.filesync.v1` and others) and of fsutil, with the numbers of
//! their fields; fields that nobody reads here are left out and passed over.

use std::collections::BTreeMap;

/// Kinds of [`Packet`].
pub mod packet {
    /// A file, or (without one) the end of them.
    pub const STAT: i32 = 0;
    /// Asks for a file.
    pub const REQUEST: i32 = 1;
    /// A part of a file; empty: its end.
    pub const DATA: i32 = 2;
    /// The end.
    pub const FIN: i32 = 3;
    /// A trouble, in words.
    pub const ERROR: i32 = 4;
}

/// A point in time (google.protobuf.Timestamp).
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Timestamp {
    /// Seconds since the epoch.
    #[prost(int64, tag = 1)]
    pub seconds: i64,
    /// Nanoseconds after them.
    #[prost(int32, tag = 2)]
    pub nanos: i32,
}

/// A message without fields.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// A piece of a stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BytesMessage {
    /// The piece.
    #[prost(bytes = "vec", tag = 1)]
    pub data: Vec<u8>,
}

/// A platform (pb.Platform).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Platform {
    /// `amd64`, …
    #[prost(string, tag = 1)]
    pub architecture: String,
    /// `linux`.
    #[prost(string, tag = 2)]
    pub os: String,
    /// `v7`, …
    #[prost(string, tag = 3)]
    pub variant: String,
}

/// What a builder is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BuildkitVersion {
    /// Its repository.
    #[prost(string, tag = 1)]
    pub package: String,
    /// Its version.
    #[prost(string, tag = 2)]
    pub version: String,
    /// Its commit.
    #[prost(string, tag = 3)]
    pub revision: String,
    /// The version of its Dockerfile front end.
    #[prost(string, tag = 4)]
    pub dockerfile_version: String,
}

/// Where steps run.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkerRecord {
    /// Its name.
    #[prost(string, tag = 1)]
    pub id: String,
    /// What it is.
    #[prost(btree_map = "string, string", tag = 2)]
    pub labels: BTreeMap<String, String>,
    /// What it can run.
    #[prost(message, repeated, tag = 3)]
    pub platforms: Vec<Platform>,
    /// Its version.
    #[prost(message, optional, tag = 5)]
    pub version: Option<BuildkitVersion>,
}

/// All workers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListWorkersResponse {
    /// They.
    #[prost(message, repeated, tag = 1)]
    pub record: Vec<WorkerRecord>,
}

/// What the builder is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoResponse {
    /// Its version.
    #[prost(message, optional, tag = 1)]
    pub version: Option<BuildkitVersion>,
}

/// An output.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exporter {
    /// `image`, `local`, …
    #[prost(string, tag = 1)]
    pub kind: String,
    /// Its options.
    #[prost(btree_map = "string, string", tag = 2)]
    pub attrs: BTreeMap<String, String>,
}

/// A cache of other machines.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CacheEntry {
    /// `registry`, `inline`, …
    #[prost(string, tag = 1)]
    pub kind: String,
    /// Its options.
    #[prost(btree_map = "string, string", tag = 2)]
    pub attrs: BTreeMap<String, String>,
}

/// Caches of other machines.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CacheOptions {
    /// Where to.
    #[prost(message, repeated, tag = 4)]
    pub exports: Vec<CacheEntry>,
    /// Where from.
    #[prost(message, repeated, tag = 5)]
    pub imports: Vec<CacheEntry>,
}

/// A build.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SolveRequest {
    /// Its id.
    #[prost(string, tag = 1)]
    pub reference: String,
    /// The first output, from older clients.
    #[prost(string, tag = 3)]
    pub exporter_deprecated: String,
    /// Its options.
    #[prost(btree_map = "string, string", tag = 4)]
    pub exporter_attrs_deprecated: BTreeMap<String, String>,
    /// Who gives the files.
    #[prost(string, tag = 5)]
    pub session: String,
    /// The front end; empty: the client itself is it.
    #[prost(string, tag = 6)]
    pub frontend: String,
    /// Attributes of the front end.
    #[prost(btree_map = "string, string", tag = 7)]
    pub frontend_attrs: BTreeMap<String, String>,
    /// Caches.
    #[prost(message, optional, tag = 8)]
    pub cache: Option<CacheOptions>,
    /// What steps may be allowed.
    #[prost(string, repeated, tag = 9)]
    pub entitlements: Vec<String>,
    /// Not to be remembered.
    #[prost(bool, tag = 11)]
    pub internal: bool,
    /// Outputs.
    #[prost(message, repeated, tag = 13)]
    pub exporters: Vec<Exporter>,
}

/// The end of a build.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SolveResponse {
    /// What the outputs say.
    #[prost(btree_map = "string, string", tag = 1)]
    pub exporter_response: BTreeMap<String, String>,
}

/// Asks how a build goes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusRequest {
    /// Which.
    #[prost(string, tag = 1)]
    pub reference: String,
}

/// What has happened since.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    /// Steps.
    #[prost(message, repeated, tag = 1)]
    pub vertexes: Vec<Vertex>,
    /// Parts of steps.
    #[prost(message, repeated, tag = 2)]
    pub statuses: Vec<VertexStatus>,
    /// Output of steps.
    #[prost(message, repeated, tag = 3)]
    pub logs: Vec<VertexLog>,
    /// Warnings.
    #[prost(message, repeated, tag = 4)]
    pub warnings: Vec<VertexWarning>,
}

/// A step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Vertex {
    /// Its digest.
    #[prost(string, tag = 1)]
    pub digest: String,
    /// Digests of steps it needs.
    #[prost(string, repeated, tag = 2)]
    pub inputs: Vec<String>,
    /// What it is.
    #[prost(string, tag = 3)]
    pub name: String,
    /// Nothing had to be done.
    #[prost(bool, tag = 4)]
    pub cached: bool,
    /// Its beginning.
    #[prost(message, optional, tag = 5)]
    pub started: Option<Timestamp>,
    /// Its end.
    #[prost(message, optional, tag = 6)]
    pub completed: Option<Timestamp>,
    /// Why it failed.
    #[prost(string, tag = 7)]
    pub error: String,
}

/// A part of a step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VertexStatus {
    /// What it is.
    #[prost(string, tag = 1)]
    pub id: String,
    /// Whose it is.
    #[prost(string, tag = 2)]
    pub vertex: String,
    /// What it is.
    #[prost(string, tag = 3)]
    pub name: String,
    /// How much is done.
    #[prost(int64, tag = 4)]
    pub current: i64,
    /// Of how much.
    #[prost(int64, tag = 5)]
    pub total: i64,
    /// When this was so.
    #[prost(message, optional, tag = 6)]
    pub timestamp: Option<Timestamp>,
    /// Its beginning.
    #[prost(message, optional, tag = 7)]
    pub started: Option<Timestamp>,
    /// Its end.
    #[prost(message, optional, tag = 8)]
    pub completed: Option<Timestamp>,
}

/// Output of a step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VertexLog {
    /// Whose.
    #[prost(string, tag = 1)]
    pub vertex: String,
    /// When.
    #[prost(message, optional, tag = 2)]
    pub timestamp: Option<Timestamp>,
    /// 1 or 2.
    #[prost(int64, tag = 3)]
    pub stream: i64,
    /// The text.
    #[prost(bytes = "vec", tag = 4)]
    pub message: Vec<u8>,
}

/// A place in a text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Position {
    /// From 1.
    #[prost(int32, tag = 1)]
    pub line: i32,
    /// From 0.
    #[prost(int32, tag = 2)]
    pub character: i32,
}

/// A part of a text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Range {
    /// Where it begins.
    #[prost(message, optional, tag = 1)]
    pub start: Option<Position>,
    /// Where it ends.
    #[prost(message, optional, tag = 2)]
    pub end: Option<Position>,
}

/// A text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SourceInfo {
    /// Its name.
    #[prost(string, tag = 1)]
    pub filename: String,
    /// What it says.
    #[prost(bytes = "vec", tag = 2)]
    pub data: Vec<u8>,
    /// Its language.
    #[prost(string, tag = 4)]
    pub language: String,
}

/// A warning.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VertexWarning {
    /// Whose.
    #[prost(string, tag = 1)]
    pub vertex: String,
    /// How grave.
    #[prost(int64, tag = 2)]
    pub level: i64,
    /// In one line.
    #[prost(bytes = "vec", tag = 3)]
    pub short: Vec<u8>,
    /// In more.
    #[prost(bytes = "vec", repeated, tag = 4)]
    pub detail: Vec<Vec<u8>>,
    /// Where it is explained.
    #[prost(string, tag = 5)]
    pub url: String,
    /// The text it is about.
    #[prost(message, optional, tag = 6)]
    pub info: Option<SourceInfo>,
    /// The part of it.
    #[prost(message, repeated, tag = 7)]
    pub ranges: Vec<Range>,
}

/// An entry of the build cache.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UsageRecord {
    /// Its id.
    #[prost(string, tag = 1)]
    pub id: String,
    /// It can change.
    #[prost(bool, tag = 2)]
    pub mutable: bool,
    /// A build uses it.
    #[prost(bool, tag = 3)]
    pub in_use: bool,
    /// Bytes.
    #[prost(int64, tag = 4)]
    pub size: i64,
    /// Its beginning.
    #[prost(message, optional, tag = 6)]
    pub created_at: Option<Timestamp>,
    /// When it was used.
    #[prost(message, optional, tag = 7)]
    pub last_used_at: Option<Timestamp>,
    /// How often.
    #[prost(int64, tag = 8)]
    pub usage_count: i64,
    /// What it is.
    #[prost(string, tag = 9)]
    pub description: String,
    /// Its kind.
    #[prost(string, tag = 10)]
    pub record_type: String,
    /// Others have it, too.
    #[prost(bool, tag = 11)]
    pub shared: bool,
    /// What it stands on.
    #[prost(string, repeated, tag = 12)]
    pub parents: Vec<String>,
}

/// Asks what is in the build cache.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiskUsageRequest {
    /// Filters.
    #[prost(string, repeated, tag = 1)]
    pub filter: Vec<String>,
}

/// What is in it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiskUsageResponse {
    /// The entries.
    #[prost(message, repeated, tag = 1)]
    pub record: Vec<UsageRecord>,
}

/// Makes room in the build cache.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PruneRequest {
    /// Filters.
    #[prost(string, repeated, tag = 1)]
    pub filter: Vec<String>,
    /// What is used by images, too.
    #[prost(bool, tag = 2)]
    pub all: bool,
    /// Nanoseconds.
    #[prost(int64, tag = 3)]
    pub keep_duration: i64,
    /// Bytes.
    #[prost(int64, tag = 4)]
    pub reserved_space: i64,
    /// Bytes.
    #[prost(int64, tag = 5)]
    pub max_used_space: i64,
    /// Bytes.
    #[prost(int64, tag = 6)]
    pub min_free_space: i64,
}

/// Asks for builds that were.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BuildHistoryRequest {
    /// Only those that run.
    #[prost(bool, tag = 1)]
    pub active_only: bool,
    /// Only this.
    #[prost(string, tag = 2)]
    pub reference: String,
    /// Those of now are enough.
    #[prost(bool, tag = 3)]
    pub early_exit: bool,
}

/// A build that was.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BuildHistoryRecord {
    /// Its id.
    #[prost(string, tag = 1)]
    pub reference: String,
}

/// Something about a build that was.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BuildHistoryEvent {
    /// 0 begun, 1 ended, 2 forgotten.
    #[prost(int32, tag = 1)]
    pub kind: i32,
    /// Which.
    #[prost(message, optional, tag = 2)]
    pub record: Option<BuildHistoryRecord>,
}

/// Something that one side can do.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ApiCap {
    /// Its name.
    #[prost(string, tag = 1)]
    pub id: String,
    /// It is on.
    #[prost(bool, tag = 2)]
    pub enabled: bool,
}

/// What the gateway can do.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PongResponse {
    /// For front ends.
    #[prost(message, repeated, tag = 1)]
    pub frontend_caps: Vec<ApiCap>,
    /// In graphs.
    #[prost(message, repeated, tag = 2)]
    pub llb_caps: Vec<ApiCap>,
    /// Where.
    #[prost(message, repeated, tag = 3)]
    pub workers: Vec<WorkerRecord>,
}

/// A front end is asked for a result.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GatewaySolveRequest {
    /// Which.
    #[prost(string, tag = 2)]
    pub frontend: String,
    /// Its attributes.
    #[prost(btree_map = "string, string", tag = 3)]
    pub frontend_opt: BTreeMap<String, String>,
    /// It is to be made at once.
    #[prost(bool, tag = 14)]
    pub evaluate: bool,
}

/// A result's name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ref {
    /// The name.
    #[prost(string, tag = 1)]
    pub id: String,
}

/// Results by platform.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RefMap {
    /// The results.
    #[prost(btree_map = "string, message", tag = 1)]
    pub refs: BTreeMap<String, Ref>,
}

/// What a front end gives.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GatewayResult {
    /// One result.
    #[prost(message, optional, tag = 3)]
    pub single: Option<Ref>,
    /// Results by platform.
    #[prost(message, optional, tag = 4)]
    pub several: Option<RefMap>,
    /// What it says beside.
    #[prost(btree_map = "string, bytes", tag = 10)]
    pub metadata: BTreeMap<String, Vec<u8>>,
}

/// See [`GatewayResult`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct GatewaySolveResponse {
    /// The result.
    #[prost(message, optional, tag = 3)]
    pub result: Option<GatewayResult>,
}

/// An error (google.rpc.Status).
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcStatus {
    /// Its code.
    #[prost(int32, tag = 1)]
    pub code: i32,
    /// For people.
    #[prost(string, tag = 2)]
    pub message: String,
}

/// The client has ended its part.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReturnRequest {
    /// What is to be put out.
    #[prost(message, optional, tag = 1)]
    pub result: Option<GatewayResult>,
    /// Or why there is nothing.
    #[prost(message, optional, tag = 2)]
    pub error: Option<RpcStatus>,
}

/// A warning of the client's.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WarnRequest {
    /// Which step.
    #[prost(string, tag = 1)]
    pub digest: String,
    /// How grave.
    #[prost(int64, tag = 2)]
    pub level: i64,
    /// In one line.
    #[prost(bytes = "vec", tag = 3)]
    pub short: Vec<u8>,
}

/// Something about a result.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RefRequest {
    /// Which.
    #[prost(string, tag = 1)]
    pub reference: String,
}

/// A file (fsutil.types.Stat).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stat {
    /// Relative, with slashes.
    #[prost(string, tag = 1)]
    pub path: String,
    /// As Go has it (os.FileMode).
    #[prost(uint32, tag = 2)]
    pub mode: u32,
    /// Owner.
    #[prost(uint32, tag = 3)]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = 4)]
    pub gid: u32,
    /// Bytes.
    #[prost(int64, tag = 5)]
    pub size: i64,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = 6)]
    pub mod_time: i64,
    /// Where a link leads; of a regular file: the first name of its inode.
    #[prost(string, tag = 7)]
    pub linkname: String,
    /// Of a device.
    #[prost(int64, tag = 8)]
    pub devmajor: i64,
    /// Of a device.
    #[prost(int64, tag = 9)]
    pub devminor: i64,
    /// Extended attributes.
    #[prost(btree_map = "string, bytes", tag = 10)]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// A word of fsutil's protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Packet {
    /// See [`packet`].
    #[prost(int32, tag = 1)]
    pub kind: i32,
    /// A file.
    #[prost(message, optional, tag = 2)]
    pub stat: Option<Stat>,
    /// Which file, by its place.
    #[prost(uint32, tag = 3)]
    pub id: u32,
    /// A part of it.
    #[prost(bytes = "vec", tag = 4)]
    pub data: Vec<u8>,
}

/// Asks who to be at a registry.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CredentialsRequest {
    /// Its host.
    #[prost(string, tag = 1)]
    pub host: String,
}

/// Who to be.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CredentialsResponse {
    /// Name.
    #[prost(string, tag = 1)]
    pub username: String,
    /// Password or token.
    #[prost(string, tag = 2)]
    pub secret: String,
}

/// Asks for a secret.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetSecretRequest {
    /// Which.
    #[prost(string, tag = 1)]
    pub id: String,
}

/// A secret.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetSecretResponse {
    /// It.
    #[prost(bytes = "vec", tag = 1)]
    pub data: Vec<u8>,
}

/// Asks whether there is an agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckAgentRequest {
    /// Which.
    #[prost(string, tag = 1)]
    pub id: String,
}
