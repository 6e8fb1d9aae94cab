//! `--publish` and `--expose`.

use std::net::IpAddr;

use fluyt_docker_api::types::{Empty, List, PortBinding, PortMap, PortNumber, PortSet, Proto};

use super::csv;

/// The check of `--expose`.
pub fn check_expose(text: &str) -> Result<(), String> {
    expose(text).map(|_| ())
}

/// Reads `--expose port[-port][/proto]`.
pub fn expose(text: &str) -> Result<Vec<PortNumber>, String> {
    let wrong = |why: String| format!("invalid range format for --expose: {why}");
    let (range, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let proto: Proto = proto.parse().map_err(|e: fluyt_model::Error| wrong(e.to_string()))?;
    let (first, last) = port_range(range).map_err(wrong)?;
    Ok((first..=last).map(|port| PortNumber { port, proto }).collect())
}

/// Reads all `--publish` values: the ports they expose, and where each is published.
pub fn publish<'a>(specs: impl Iterator<Item = &'a str>) -> Result<(PortSet, PortMap), String> {
    let mut exposed = PortSet::new();
    let mut bindings = PortMap::new();
    for spec in specs {
        let plain = if spec.contains('=') { long_form(spec)? } else { spec.to_owned() };
        for (port, binding) in one(&plain)? {
            exposed.insert(port, Empty {});
            bindings.entry(port).or_insert_with(List::empty).push(binding);
        }
    }
    Ok((exposed, bindings))
}

/// `published=8080,target=80,protocol=tcp` as `8080:80/tcp`.
fn long_form(spec: &str) -> Result<String, String> {
    let (mut published, mut target, mut proto) = (String::new(), String::new(), "tcp".to_owned());
    for field in csv::fields(spec)? {
        match field.split_once('=') {
            Some(("published", value)) => published = value.to_owned(),
            Some(("target", value)) => target = value.to_owned(),
            Some(("protocol", value)) => proto = value.to_owned(),
            Some((key, _)) if !key.is_empty() => {}
            _ => {
                return Err(format!("invalid publish opts format (should be name=value but got '{field}')"));
            }
        }
    }
    Ok(format!("{published}:{target}/{proto}"))
}

/// Reads `[ip:][host[-host]:]container[-container][/proto]`.
fn one(spec: &str) -> Result<Vec<(PortNumber, PortBinding)>, String> {
    let (front, container) = spec.rsplit_once(':').unwrap_or(("", spec));
    let (ip, host) = front.rsplit_once(':').unwrap_or(("", front));
    let (container, proto) = container.split_once('/').unwrap_or((container, ""));
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let proto = if proto.is_empty() { "tcp" } else { proto };
    let proto: Proto = proto.parse().map_err(|e: fluyt_model::Error| e.to_string())?;
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let (first, last) = port_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        host => Some(port_range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
    };
    if let Some((host_first, host_last)) = host_range
        && first != last
        && last - first != host_last - host_first
    {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    let binding = |port: u16| {
        let host_port = match host_range {
            None => String::new(),
            Some((from, to)) if first == last && from != to => format!("{from}-{to}"),
            Some((from, _)) => (from + (port - first)).to_string(),
        };
        (PortNumber { port, proto }, PortBinding { host_ip: ip.to_owned(), host_port })
    };
    Ok((first..=last).map(binding).collect())
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let number = |which: &str, text: &str| {
        text.parse::<u16>().map_err(|_| match text {
            "" => format!("invalid {which} port '': value is empty"),
            text if text.bytes().all(|b| b.is_ascii_digit()) => {
                format!("invalid {which} port '{text}': value out of range (0–65535)")
            }
            text => format!("invalid {which} port '{text}': invalid syntax"),
        })
    };
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number("start", first)?, number("end", last)?);
    if to < from {
        return Err(format!("invalid port range: {text}"));
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(spec: &str) -> String {
        match publish([spec].into_iter()) {
            Ok((_, map)) => map
                .iter()
                .flat_map(|(port, list)| {
                    list.iter().map(move |b| format!("{}|{}|{port}", b.host_ip, b.host_port))
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(why) => why,
        }
    }

    #[test]
    fn publications_read_as_dockers_do() {
        for (spec, expected) in [
            ("80", "||80/tcp"),
            ("8080:80", "|8080|80/tcp"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1|8080|80/udp"),
            ("127.0.0.1::80", "127.0.0.1||80/tcp"),
            ("[::1]:8080:80", "::1|8080|80/tcp"),
            ("8000-8001:80-81", "|8000|80/tcp |8001|81/tcp"),
            ("8000-8010:80", "|8000-8010|80/tcp"),
            ("9000-9001", "||9000/tcp ||9001/tcp"),
            ("published=81,target=80", "|81|80/tcp"),
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("80/x", "invalid proto: x"),
            ("x:80", "invalid hostPort: x"),
            ("80:x", "invalid containerPort: x"),
            ("1.2.3.400:80:80", "invalid IP address: 1.2.3.400"),
            ("80:70000", "invalid containerPort: 70000"),
            ("80-81:80-82", "invalid ranges specified for container and host Ports: 80-82 and 80-81"),
        ] {
            assert_eq!(show(spec), expected, "{spec}");
        }
    }

    #[test]
    fn exposures() {
        assert_eq!(expose("80-82/udp").unwrap().len(), 3);
        assert_eq!(
            expose("82-80").unwrap_err(),
            "invalid range format for --expose: invalid port range: 82-80"
        );
    }
}
