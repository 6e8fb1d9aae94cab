//! Sandboxes, images, networks and volumes of one data root, as a plain blocking library.
//!
//! (Interim, until the modules land: the signatures that façades can code against.)
//!
//! ```text
//! # fluyt_engine API (types in /work/wt/lead/crates/engine/src/api.rs, re-exported at the crate root); all Result = fluyt_model::Result
//! pub struct Engine;   // cheap to open; everything blocking, &self
//! Engine::open(root: &Path) -> Result<Engine>           // Engine::default_root() -> PathBuf ("/var/lib/fluyt"), FLUYT_ROOT is read by the CLI
//! engine.images() -> &fluyt_image::Store
//! engine.create(CreateRequest) -> Result<String /*id*/>            // resolves image by name; error Kind::NotFound if the image is missing locally (the CLI pulls then, per --pull)
//! engine.start(&str, StartOptions) -> Result<Option<Attach>>       // Some when attach was asked for
//! engine.attach(&str, stdin: bool) -> Result<Attach>
//! engine.stop(&str, &StopOptions) ; kill(&str, signal: &str) ; restart(&str, &StopOptions) ; pause(&str) ; unpause(&str) -> Result<()>
//! engine.remove(&str, RemoveOptions) -> Result<()>
//! engine.wait(&str, WaitCondition) -> Result<i32>
//! engine.rename(&str, new: &str) ; engine.update(&str, &UpdateRequest) -> Result<()>
//! engine.list() -> Result<Vec<ContainerView>>                     // all, newest first; filters (pure functions on views) are the CLI's: crates/fluyt/src/cli/filters
//! engine.container(&str /* name, id or unique prefix */) -> Result<ContainerView>
//! engine.size(&ContainerView) -> Result<(u64 rw, u64 rootfs)>
//! engine.logs(&str, LogOptions) -> Result<LogReader>   // LogReader::next(&mut self) -> Result<Option<LogLine>>; LogLine { stream, time: i64 ns, line: &[u8] with newline as logged, attrs }; blocks when following, None at the end
//! engine.exec(&str, &ExecOptions) -> Result<Exec>      // Exec { stdin: Option<OwnedFd>, stdout, stderr: Option<OwnedFd> or tty master; resize(r,c); wait() -> Result<i32>; pidfd() }  ; exec_detached(&str,&ExecOptions) -> Result<()>
//! engine.top(&str, ps_args: &[String]) -> Result<(Vec<String> titles, Vec<Vec<String>> rows)>
//! engine.stats(&str) -> Result<Stats>
//! engine.copy_out(&str, path: &str, follow: bool, out: &mut dyn Write /* tar */) -> Result<PathStat>; engine.copy_in(&str, dest: &str, tar: &mut dyn Read, opts) -> Result<()>; engine.path_stat(&str, path) -> Result<PathStat>
//! engine.diff(&str) -> Result<Vec<Change>> ; engine.export(&str, &mut dyn Write) ; engine.commit(&str, &CommitRequest) -> Result<String /*image id*/>
//! engine.events(since: Option<i64>, until: Option<i64>, follow: bool) -> Result<EventReader>  // next() -> Result<Option<Event>>
//! engine.emit(Event)                                   // for image pull/tag/... done by the CLI
//! engine.networks() -> Result<Vec<NetworkView>>; network(&str); network_create(NetworkSpec) -> Result<String>; network_remove(&str); network_connect(net, container, NetworkAttachment); network_disconnect(net, container, force)
//! engine.volumes() -> Result<Vec<VolumeView>>; volume(&str); volume_create(VolumeSpec) -> Result<VolumeView>; volume_remove(&str, force)
//! engine.remove_image(&str, force) -> Result<Vec<Removed>> (image store's type)
//! engine.prune_containers(until: Option<i64>, keep: &dyn Fn(&ContainerView)->bool) -> Result<Pruned>; prune_volumes(all: bool, keep: ..); prune_networks(..); prune_images(all: bool, ..)
//! engine.df() -> Result<DiskUse> ; engine.info() -> Result<Info> ; engine.fsck(repair: bool) -> Result<Vec<String> findings>
//!
//! // Attach: the other end of the monitor
//! pub struct Attach; impl AsFd (poll for reading)
//! attach.read() -> Result<Frame>            // blocking; enum Frame { Data(Stream, Vec<u8>), Exited(i32), Detached/Eof }
//! attach.write(&[u8]) -> Result<()>; close_stdin(); resize(rows, cols)
//!
//! // docker-api (you own types; lead owns lower.rs):
//! fluyt_docker_api::lower::container(&types::CreateRequest{config, host_config, networking_config}, image: Option<&types::ImageConfigLike>) -> Result<SandboxSpec>   // pure; image's ENV/CMD/ENTRYPOINT/USER/WORKDIR/VOLUMES/HEALTHCHECK/STOPSIGNAL/LABELS merged here
//! ```
#![forbid(unsafe_code)]

pub mod api;

pub use api::*;
