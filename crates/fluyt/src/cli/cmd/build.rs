//! `build`.

use crate::cli::create::devices::check_ulimit;
use crate::cli::flags::{Arity, Command, NONE, list, many, maybe, one, switch, text, values};

pub use crate::cli::build::build;

/// `fluyt build`.
pub const BUILD: Command = Command {
    name: "build",
    arguments: "PATH | URL | -",
    about: "Start a build",
    flags: &[
        &[
            list(NONE, "add-host", "Add a custom host-to-IP mapping (format: \"host:ip\")"),
            list(
                NONE,
                "allow",
                "Allow extra privileged entitlement (e.g., \"network.host\", \"security.insecure\")",
            ),
            list(NONE, "annotation", "Add annotation to the image"),
            list(NONE, "attest", "Attestation parameters (format: \"type=provenance,mode=max\")"),
            list(NONE, "build-arg", "Set build-time variables"),
            list(NONE, "build-context", "Additional build contexts (e.g., name=path)"),
            text(NONE, "builder", "Override the configured builder instance").hidden(),
            list(
                NONE,
                "cache-from",
                "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")",
            ),
            list(
                NONE,
                "cache-to",
                "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")",
            ),
            text(NONE, "call", "Set method for evaluating build (\"check\", \"outline\", \"targets\")")
                .default("build"),
            text(NONE, "cgroup-parent", "Set the parent cgroup for the \"RUN\" instructions during build"),
            switch(NONE, "check", "Shorthand for \"--call=check\""),
            text('f', "file", "Name of the Dockerfile (default: \"PATH/Dockerfile\")"),
            text(NONE, "iidfile", "Write the image ID to a file"),
            list(NONE, "label", "Set metadata for an image"),
            switch(NONE, "load", "Shorthand for \"--output=type=docker\""),
            text(NONE, "metadata-file", "Write build result metadata to a file"),
            text(NONE, "network", "Set the networking mode for the \"RUN\" instructions during build")
                .default("default"),
            switch(NONE, "no-cache", "Do not use cache when building the image"),
            list(NONE, "no-cache-filter", "Do not cache specified stages"),
            list('o', "output", "Output destination (format: \"type=local,dest=path\")"),
            list(NONE, "platform", "Set target platform for build"),
            switch(NONE, "print-graph", "Print the operations of the build as JSON instead of building"),
            text(
                NONE,
                "progress",
                "Set type of progress output (\"auto\", \"plain\", \"quiet\", \"rawjson\", \"tty\")",
            )
            .default("auto"),
            text(NONE, "provenance", "Shorthand for \"--attest=type=provenance\""),
            maybe(
                NONE,
                "pull",
                crate::cli::build::podman::check_pull,
                "Always attempt to pull all referenced images",
            ),
            switch(NONE, "push", "Shorthand for \"--output=type=registry,unpack=false\""),
            switch('q', "quiet", "Suppress the build output and print image ID on success"),
            switch(NONE, "rm", "Remove intermediate containers after a successful build")
                .default("true")
                .hidden(),
            switch(NONE, "force-rm", "Always remove intermediate containers").hidden(),
            text(NONE, "sbom", "Shorthand for \"--attest=type=sbom\""),
            super::trust::SIGNATURE_POLICY,
            list(
                NONE,
                "secret",
                "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")",
            ),
            one(NONE, "shm-size", "bytes", values::bytes, "Shared memory size for build containers")
                .default("0"),
            list(
                NONE,
                "ssh",
                "SSH agent socket or keys to expose to the build (format: \"default|<id>[=<socket>|<key>[,<key>]]\")",
            ),
            list('t', "tag", "Image identifier (format: \"[registry/]repository[:tag]\")"),
            text(NONE, "target", "Set the target build stage to build"),
            many(NONE, "ulimit", "ulimit", check_ulimit, "Ulimit options"),
        ],
        crate::cli::build::podman::FLAGS,
    ],
    // One, unless the file says where it is.
    arity: Arity::AtMost(1),
    interspersed: true,
};
