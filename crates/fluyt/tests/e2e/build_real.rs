//! Projects of usual kinds, built for real from Debian's packages, crates.io, PyPI and npm, and run: several stages,
//! cache mounts, secrets, a user that is not root.
//!
//! They fetch some hundred megabytes, so they run only when asked for: `FLUYT_SLOW=1`. What the machine trusts and how it
//! reaches its registries is given to the steps as a secret; no step has it in its image.

use std::path::Path;

use fluyt_testkit::{Host, debian, skip};

use crate::PROGRAM;

/// The base image of all of them. apt puts packages in order that debootstrap cannot (those of npm need each other).
const BUILDERS: &str = "FROM debian:bookworm
RUN apt-get update -q && apt-get install -yq --no-install-recommends cargo-web npm python3-pip python3-venv
";
/// The certificates that this machine trusts.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

fn slow_host() -> Option<Host> {
    if std::env::var_os("FLUYT_SLOW").is_none() {
        skip("fetches hundreds of megabytes: FLUYT_SLOW=1 runs it");
        return None;
    }
    let archive = debian::root_file_system(&["ca-certificates"])?;
    let host = Host::on_the_machines_network(PROGRAM)?;
    host.ok_words(&["import", archive.to_str().expect("a path"), "debian:bookworm"]);
    host.scratch().write("builders/Dockerfile", BUILDERS);
    let context = host.scratch().join("builders").display().to_string();
    host.ok_words(&["build", "--progress", "plain", "--network", "host", "-t", "debian:builders", &context]);
    Some(host)
}

#[test]
fn projects_of_three_kinds() {
    let Some(host) = slow_host() else { return };
    a_rust_program(&host);
    a_python_program(&host);
    a_node_program(&host);
}

/// Builds the project with its files, on this machine's network; then runs the image.
fn made(host: &Host, name: &str, files: &[(&str, &str)]) -> String {
    for (path, text) in files {
        host.scratch().write(&format!("{name}/{path}"), text);
    }
    let dir = host.scratch().join(name).display().to_string();
    let mut words = vec!["build", "--progress", "plain", "--network", "host", "-t", name];
    let trusted = format!("id=ca,src={TRUSTED}");
    if Path::new(TRUSTED).exists() {
        words.extend(["--secret", &trusted]);
    }
    words.push(&dir);
    let outcome = host.run_words(&words);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let again = host.run_words(&words);
    assert!(
        again.code == 0
            && again.stderr.contains("CACHED")
            && !again.stderr.contains("exporting layers failed")
    );
    host.ok_words(&["run", "--rm", "--network", "none", name])
}

fn a_rust_program(host: &Host) {
    let dockerfile = r#"# syntax=docker/dockerfile:1
ARG BASE=debian:builders
FROM ${BASE} AS build
ENV CARGO_HOME=/cargo
WORKDIR /src
COPY --link Cargo.toml ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs
RUN --mount=type=cache,target=/cargo/registry \
    --mount=type=secret,id=ca,target=/run/ca.crt \
    CARGO_HTTP_CAINFO=/run/ca.crt cargo build --release
COPY src src
# The time of the file decides whether cargo looks at it.
RUN --mount=type=cache,target=/cargo/registry \
    touch src/main.rs && cargo build --release --offline && cp target/release/hello /hello

FROM debian:builders
COPY --from=build --chmod=0555 /hello /usr/local/bin/hello
USER 65534:65534
ENTRYPOINT ["hello"]
CMD ["world"]
"#;
    let files = [
        ("Dockerfile", dockerfile),
        (
            "Cargo.toml",
            "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nitoa = \"=1.0.9\"\n",
        ),
        (
            "src/main.rs",
            "fn main() {\n    let who = std::env::args().nth(1).unwrap_or_default();\n    println!(\"hello {who} {}\", itoa::Buffer::new().format(42));\n}\n",
        ),
        (".dockerignore", "target\nDockerfile\n"),
    ];
    assert_eq!(made(host, "rust", &files), "hello world 42");
}

fn a_python_program(host: &Host) {
    let dockerfile = r#"# syntax=docker/dockerfile:1
FROM debian:builders AS wheels
ENV PIP_NO_INPUT=1
WORKDIR /w
RUN --mount=type=bind,source=requirements.txt,target=/w/requirements.txt \
    --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=ca,target=/run/ca.crt \
    PIP_CERT=/run/ca.crt pip3 wheel -q --wheel-dir /wheels -r requirements.txt

FROM debian:builders
RUN python3 -m venv /venv
ENV PATH=/venv/bin:$PATH
RUN --mount=from=wheels,source=/wheels,target=/wheels pip install -q --no-index /wheels/*.whl
WORKDIR /app
COPY --chown=1000:1000 <<PY app.py
import six, os
print("six", six.PY3, os.getuid())
PY
USER 1000
CMD ["python", "app.py"]
"#;
    let files = [("Dockerfile", dockerfile), ("requirements.txt", "six==1.16.0\n")];
    assert_eq!(made(host, "python", &files), "six True 1000");
}

fn a_node_program(host: &Host) {
    let dockerfile = r#"# syntax=docker/dockerfile:1
FROM debian:builders AS base
WORKDIR /app
FROM base AS modules
COPY package.json .
RUN --mount=type=cache,target=/root/.npm,sharing=locked --mount=type=secret,id=ca,target=/run/ca.crt <<EOF
set -e
NODE_EXTRA_CA_CERTS=/run/ca.crt npm install --no-audit --no-fund --loglevel=error
test -d node_modules/is-number
EOF
FROM base
ENV NODE_ENV=production
COPY --from=modules /app/node_modules node_modules
COPY . .
HEALTHCHECK --interval=5s CMD ["node", "--version"]
CMD ["node", "main.js"]
"#;
    let files = [
        ("Dockerfile", dockerfile),
        (
            "package.json",
            "{\"name\":\"app\",\"version\":\"1.0.0\",\"dependencies\":{\"is-number\":\"7.0.0\"}}\n",
        ),
        ("main.js", "console.log('is', require('is-number')(5), process.env.NODE_ENV)\n"),
        (".dockerignore", "node_modules\nDockerfile\n"),
    ];
    assert_eq!(made(host, "node", &files), "is true production");
}
