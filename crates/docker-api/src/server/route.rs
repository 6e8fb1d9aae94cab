//! Paths and methods, and who answers them.

use fluyt_http::{Method, Response};
use fluyt_model::{Error, Result};

use super::call::Call;
use super::{builds, containers, events, execs, images, networks, swarm, system, volumes};

/// What answers a request.
pub type Answer = fn(&mut Call<'_, '_>) -> Result<Response>;

/// One operation.
pub struct Route {
    method: Method,
    /// Segments of the path: `*` is one, `**` one or more.
    pattern: &'static str,
    /// Who answers it.
    pub answer: Answer,
}

/// `GET`.
pub const fn get(pattern: &'static str, answer: Answer) -> Route {
    Route { method: Method::Get, pattern, answer }
}

/// `HEAD`.
pub const fn head(pattern: &'static str, answer: Answer) -> Route {
    Route { method: Method::Head, pattern, answer }
}

/// `POST`.
pub const fn post(pattern: &'static str, answer: Answer) -> Route {
    Route { method: Method::Post, pattern, answer }
}

/// `PUT`.
pub const fn put(pattern: &'static str, answer: Answer) -> Route {
    Route { method: Method::Put, pattern, answer }
}

/// `DELETE`.
pub const fn delete(pattern: &'static str, answer: Answer) -> Route {
    Route { method: Method::Delete, pattern, answer }
}

/// Every group's operations. Within a group the first that matches counts.
const GROUPS: &[&[Route]] = &[
    containers::ROUTES,
    execs::ROUTES,
    events::ROUTES,
    images::ROUTES,
    networks::ROUTES,
    volumes::ROUTES,
    builds::ROUTES,
    system::ROUTES,
    swarm::ROUTES,
];

/// The operation at a path (without its version), and what stands in the places of the pattern's stars.
///
/// # Errors
/// `NotFound`: there is none.
pub fn find(method: Method, path: &str) -> Result<(&'static Route, Vec<String>)> {
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    for route in GROUPS.iter().flat_map(|group| group.iter()) {
        if route.method == method
            && let Some(variables) = matched(route.pattern, &segments)
        {
            return Ok((route, variables));
        }
    }
    Err(Error::not_found("page not found"))
}

fn matched(pattern: &str, segments: &[&str]) -> Option<Vec<String>> {
    let pattern = pattern.trim_start_matches('/');
    // Most begin with another word: seen without taking them apart.
    if pattern
        .split('/')
        .next()
        .is_none_or(|first| !first.starts_with('*') && segments.first() != Some(&first))
    {
        return None;
    }
    let mut variables = Vec::new();
    let pattern: Vec<&str> = pattern.split('/').collect();
    let mut at = 0;
    for (index, piece) in pattern.iter().enumerate() {
        let width = match *piece {
            // As much as the rest of the pattern leaves.
            "**" => segments.len().checked_sub(at + (pattern.len() - index - 1)).filter(|n| *n > 0)?,
            _ => 1,
        };
        let here = segments.get(at..at + width)?;
        match *piece {
            "*" | "**" if here.iter().all(|s| s.is_empty()) => return None,
            "*" | "**" => variables.push(here.join("/")),
            literal if here == [literal] => {}
            _ => return None,
        }
        at += width;
    }
    (at == segments.len()).then_some(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_names_with_slashes_where_they_may() {
        let m = |pattern, path: &str| matched(pattern, &path.split('/').collect::<Vec<_>>());
        assert_eq!(m("/images/**/json", "images/reg:5000/a/b:c/json").unwrap(), ["reg:5000/a/b:c"]);
        assert_eq!(m("/containers/*/json", "containers/x/json").unwrap(), ["x"]);
        assert!(m("/containers/*/json", "containers/x/y/json").is_none());
        assert!(m("/containers/*/json", "containers//json").is_none());
        assert!(m("/images/**/json", "images/json").is_none());
        assert!(m("/images/json", "images/json").unwrap().is_empty());
    }

    #[test]
    fn no_route_is_hidden_by_another() {
        let all: Vec<&Route> = GROUPS.iter().flat_map(|g| g.iter()).collect();
        for route in &all {
            let path = route.pattern.replace("**", "name").replace('*', "name");
            let (found, _) = find(route.method, &path).unwrap();
            assert_eq!(found.pattern, route.pattern);
        }
    }
}
