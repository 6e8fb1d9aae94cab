//! What Podman's `build` has and Docker's has not, as Quadlet's `.build` units say it.

use fluyt_model::{Error, Result};

use crate::cli::fail::Failure;
use crate::cli::filter::boolean;
use crate::cli::flags::{Flag, NONE, Parsed, list, switch, text};

/// The flags.
pub const FLAGS: &[Flag] = &[
    text(NONE, "arch", "Architecture of the image, instead of this machine's"),
    text(NONE, "os", "Operating system of the image, instead of linux"),
    text(NONE, "variant", "Variant of the image's architecture"),
    text(NONE, "retry", "Accepted; requests to registries are tried again anyway").hidden(),
    text(NONE, "retry-delay", "Accepted; see --retry").hidden(),
    switch(NONE, "tls-verify", "Not to be switched off here").default("true").hidden(),
    text(NONE, "authfile", "Not here").hidden(),
    text(NONE, "ignorefile", "Not here").hidden(),
    list(NONE, "env", "Not here").hidden(),
    list('v', "volume", "Not here").hidden(),
    list(NONE, "dns", "Not here").hidden(),
    list(NONE, "dns-option", "Not here").hidden(),
    list(NONE, "dns-search", "Not here").hidden(),
    list(NONE, "group-add", "Not here").hidden(),
];

/// The check of `--pull`: a boolean, or one of Podman's policies.
pub fn check_pull(text: &str) -> Result<(), String> {
    let known =
        boolean(text).is_some() || matches!(text, "always" | "missing" | "ifmissing" | "newer" | "never");
    if known { Ok(()) } else { Err("must be a boolean, always, missing, newer or never".to_owned()) }
}

/// Whether base images are asked for anew.
pub fn pulls(flags: &Parsed) -> bool {
    flags.on("pull") || matches!(flags.text("pull"), "always" | "newer")
}

/// The context: what is named, or where the Dockerfile is that is named instead.
///
/// # Errors
/// Neither is.
pub fn context(flags: &Parsed) -> Result<String, Failure> {
    if let Some(path) = flags.args.first() {
        return Ok(path.clone());
    }
    match flags.given("file") {
        Some(file) if file != "-" => {
            let directory = std::path::Path::new(file).parent().and_then(std::path::Path::to_str).unwrap_or_default();
            Ok(if directory.is_empty() { ".".to_owned() } else { directory.to_owned() })
        }
        _ => Err(Failure::Usage {
            sentence: "fluyt: 'fluyt build' requires 1 argument".to_owned(),
            usage: "Usage:  fluyt build [OPTIONS] PATH | URL | -\n\nRun 'fluyt build --help' for more information".to_owned(),
            code: 1,
        }),
    }
}

/// `--platform`, or the one that the flags for its parts make.
///
/// # Errors
/// Both are given.
pub fn platforms(flags: &Parsed) -> Result<Vec<String>> {
    let part = |name: &str| flags.given(name).filter(|text| !text.is_empty());
    let (os, arch, variant) = (part("os"), part("arch"), part("variant"));
    if os.is_none() && arch.is_none() && variant.is_none() {
        return Ok(flags.list("platform"));
    }
    if flags.changed("platform") {
        return Err(Error::invalid("--platform cannot be combined with --os, --arch and --variant"));
    }
    let arch = arch.map_or_else(|| fluyt_image::Platform::host().architecture, str::to_owned);
    let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
    Ok(vec![format!("{}/{arch}{variant}", os.unwrap_or("linux"))])
}

/// Refuses what cannot be had, with what to do instead.
///
/// # Errors
/// `Unsupported`.
pub fn refuse(flags: &Parsed) -> Result<()> {
    const INSTEAD: [(&str, &str); 8] = [
        ("authfile", "set REGISTRY_AUTH_FILE, or 'fluyt login' before"),
        ("ignorefile", "call the file .dockerignore, or DOCKERFILE.dockerignore beside the Dockerfile"),
        ("env", "write ENV into the Dockerfile"),
        ("volume", "RUN --mount=type=bind, or --build-context NAME=PATH"),
        ("dns", "--network host uses the machine's resolver"),
        ("dns-option", "--network host uses the machine's resolver"),
        ("dns-search", "--network host uses the machine's resolver"),
        ("group-add", "write USER into the Dockerfile"),
    ];
    let refused = |flag: &str| Error::unsupported(format!("build has no --{flag} here"));
    if !flags.on("tls-verify") {
        return Err(
            refused("tls-verify=false").with_hint("list the registry as insecure: see docs/registry.md")
        );
    }
    match INSTEAD.iter().find(|(flag, _)| flags.changed(flag)) {
        Some((flag, instead)) => Err(refused(flag).with_hint(*instead)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::build_command;
    use crate::cli::flags::parse;

    fn read(line: &str) -> Parsed {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(build_command(), "build", &words).unwrap()
    }

    #[test]
    fn a_build_unit_is_understood() {
        let flags = read("--pull=newer --arch arm64 --variant v8 --tag t --file /etc/x/Containerfile");
        assert!(pulls(&flags));
        assert_eq!(platforms(&flags).unwrap(), ["linux/arm64/v8"]);
        assert_eq!(context(&flags).unwrap_or_default(), "/etc/x");
        assert!(pulls(&read("--pull .")) && !pulls(&read("--pull=missing .")) && !pulls(&read(".")));
        assert_eq!(context(&read("--file Containerfile")).unwrap_or_default(), ".");
        assert!(context(&read("--tag t")).is_err());
        assert!(refuse(&read("--ignorefile x .")).unwrap_err().hint().unwrap().contains(".dockerignore"));
        assert!(refuse(&read("--tls-verify=false .")).is_err());
        assert!(platforms(&read("--platform linux/amd64 --arch arm64 .")).is_err());
        let words = ["--pull=maybe".to_owned(), ".".to_owned()];
        assert!(parse(build_command(), "build", &words).is_err());
    }
}
