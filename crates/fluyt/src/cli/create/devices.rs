//! `--device`, `--gpus`, `--ulimit` and the rates of block devices.

use fluyt_docker_api::types::{
    DeviceMapping, DeviceRequest, List, Map, ThrottleDevice, Ulimit, WeightDevice,
};
use fluyt_model::quantity;

use super::csv;

/// The check of `--ulimit`.
pub fn check_ulimit(text: &str) -> Result<(), String> {
    ulimit(text).map(|_| ())
}

/// Reads `--ulimit name=soft[:hard]`; -1 is no limit.
pub fn ulimit(text: &str) -> Result<Ulimit, String> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (number(soft)?, number(hard)?);
    let rule = "ulimit soft limit must be less than or equal to hard limit";
    if hard != -1 && soft == -1 {
        return Err(format!("{rule}: soft: -1 (unlimited), hard: {hard}"));
    }
    if hard != -1 && soft > hard {
        return Err(format!("{rule}: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

/// The check of `--gpus`.
pub fn check_gpus(text: &str) -> Result<(), String> {
    gpus(text).map(|_| ())
}

/// Reads `--gpus all|N|driver=…,device=…,capabilities=…,count=…,options=…`.
pub fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest { options: Map::empty(), ..DeviceRequest::default() };
    let mut seen: Vec<String> = Vec::new();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if seen.iter().any(|s| s == key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        match (key, value) {
            (count, None) => {
                seen.push("count".to_owned());
                request.count = gpu_count(count)?;
            }
            ("count", Some(value)) => request.count = gpu_count(value)?,
            ("driver", Some(value)) => request.driver = value.to_owned(),
            ("device", Some(value)) => request.device_ids = words(value).into(),
            ("capabilities", Some(value)) => {
                let mut all = words(value);
                all.push("gpu".to_owned());
                request.capabilities = vec![all].into();
            }
            ("options", Some(value)) => {
                let fields =
                    csv::fields(value).map_err(|why| format!("failed to read gpu options: {why}"))?;
                request.options = super::key_values(fields.iter().map(String::as_str));
            }
            (key, Some(_)) => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !seen.iter().any(|s| s == "count") && request.device_ids.is_empty() {
        request.count = 1;
    }
    if request.capabilities.is_empty() {
        request.capabilities = vec![vec!["gpu".to_owned()]].into();
    }
    Ok(request)
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse().map_err(|_| {
        format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax")
    })
}

/// Sorts `--device` values into plain devices and one request for all CDI names (`vendor/class=name`).
pub fn devices<'a>(
    specs: impl Iterator<Item = &'a str>,
) -> Result<(List<DeviceMapping>, Option<DeviceRequest>), String> {
    let (mut plain, mut cdi) = (Vec::new(), Vec::new());
    for spec in specs {
        if is_cdi(spec) { cdi.push(spec.to_owned()) } else { plain.push(device(spec)?) }
    }
    let request = (!cdi.is_empty()).then(|| DeviceRequest {
        driver: "cdi".to_owned(),
        device_ids: cdi.into(),
        ..DeviceRequest::default()
    });
    Ok((plain.into(), request))
}

fn is_cdi(spec: &str) -> bool {
    !spec.starts_with('/')
        && spec.split_once('=').is_some_and(|(kind, name)| {
            !name.is_empty() && kind.split_once('/').is_some_and(|(v, c)| !v.is_empty() && !c.is_empty())
        })
}

/// Reads `--device host[:container][:rwm]`.
fn device(spec: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = spec.split(':').collect();
    if parts.len() > 3 || parts[0].is_empty() {
        return Err(format!("bad format for path: {spec}"));
    }
    let access = |mode: &str| {
        !mode.is_empty()
            && mode.bytes().all(|b| b"rwm".contains(&b))
            && mode.bytes().all(|b| mode.bytes().filter(|c| *c == b).count() == 1)
    };
    let (inside, mode) = match parts.as_slice() {
        [host, inside, mode] if access(mode) => (if inside.is_empty() { host } else { inside }, *mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        [host, mode] if access(mode) => (host, *mode),
        [_, inside] => (inside, "rwm"),
        [host] => (host, "rwm"),
        _ => return Err(format!("bad format for path: {spec}")),
    };
    if !inside.starts_with('/') {
        return Err(format!("{inside} is not an absolute path"));
    }
    Ok(DeviceMapping {
        path_on_host: parts[0].to_owned(),
        path_in_container: (*inside).to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// The check of `--blkio-weight-device`.
pub fn check_weight(text: &str) -> Result<(), String> {
    weight(text).map(|_| ())
}

/// Reads `--blkio-weight-device /dev/x:weight`.
pub fn weight(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_and(text)?;
    let weight: Option<u16> = weight.parse().ok().filter(|w| *w == 0 || (10..=1000).contains(w));
    let weight = weight.ok_or_else(|| format!("invalid weight for device: {text}"))?;
    Ok(WeightDevice { path, weight })
}

/// The check of `--device-*-bps`.
pub fn check_bps(text: &str) -> Result<(), String> {
    bps(text).map(|_| ())
}

/// Reads `--device-*-bps /dev/x:rate`.
pub fn bps(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and(text)?;
    let rate = quantity::parse_bytes(rate).ok().and_then(|r| u64::try_from(r).ok()).ok_or_else(|| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(ThrottleDevice { path, rate })
}

/// The check of `--device-*-iops`.
pub fn check_iops(text: &str) -> Result<(), String> {
    iops(text).map(|_| ())
}

/// Reads `--device-*-iops /dev/x:rate`.
pub fn iops(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and(text)?;
    let rate = rate.parse().map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(ThrottleDevice { path, rate })
}

fn device_and(text: &str) -> Result<(String, &str), String> {
    let (path, rest) =
        text.split_once(':').filter(|(p, _)| !p.is_empty()).ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_as_dockers_do() {
        for (spec, host, inside, mode) in [
            ("/dev/a", "/dev/a", "/dev/a", "rwm"),
            ("/dev/a:r", "/dev/a", "/dev/a", "r"),
            ("/dev/a:/dev/b", "/dev/a", "/dev/b", "rwm"),
            ("/dev/a:/dev/b:rw", "/dev/a", "/dev/b", "rw"),
        ] {
            let got = device(spec).unwrap();
            assert_eq!(
                (got.path_on_host.as_str(), got.path_in_container.as_str(), got.cgroup_permissions.as_str()),
                (host, inside, mode)
            );
        }
        assert_eq!(device("/dev/a:/b:x").unwrap_err(), "bad mode specified: x");
        assert_eq!(device("/dev/a:b").unwrap_err(), "b is not an absolute path");
        let (plain, cdi) = devices(["nvidia.com/gpu=0", "/dev/a"].into_iter()).unwrap();
        assert_eq!((plain.len(), cdi.unwrap().device_ids.len()), (1, 1));
    }

    #[test]
    fn ulimits() {
        assert_eq!(ulimit("nofile=1:2").unwrap(), Ulimit { name: "nofile".into(), soft: 1, hard: 2 });
        assert_eq!(ulimit("nofile=3").unwrap().hard, 3);
        assert_eq!(ulimit("x=3").unwrap_err(), "invalid ulimit type: x");
        assert_eq!(
            ulimit("nofile=3:2").unwrap_err(),
            "ulimit soft limit must be less than or equal to hard limit: 3 > 2"
        );
    }

    #[test]
    fn gpu_requests() {
        assert_eq!(gpus("all").unwrap().count, -1);
        assert_eq!(gpus("2").unwrap().count, 2);
        let some = gpus("\"device=0,1\",capabilities=utility").unwrap();
        assert_eq!(*some.device_ids, ["0", "1"]);
        assert_eq!(*some.capabilities, [["utility", "gpu"]]);
        assert!(gpus("x").unwrap_err().starts_with("invalid count (x)"));
    }
}
