//! Filters of a rule or a backendRef, compiled.

use gateway_api::experimental::httproutes::{
    HttpRouteRulesFilters, HttpRouteRulesFiltersRequestHeaderModifier, HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesFiltersRequestRedirect, HttpRouteRulesFiltersRequestRedirectPath,
    HttpRouteRulesFiltersRequestRedirectScheme, HttpRouteRulesFiltersUrlRewrite,
};
use http::{HeaderName, HeaderValue};
use serde::Serialize;

use crate::snapshot::{Filters, HeaderChanges, PathRewrite, Redirect, UrlRewrite};

/// Compiled filters, and the mirrors, whose backends are yet to be found.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    pub(super) filters: Filters,
    pub(super) mirrors: Vec<HttpRouteRulesFiltersRequestMirror>,
}

/// Compiles a list of filters; the error names a filter that is not supported, or a value that decoding let through.
pub(super) fn compile(list: &[HttpRouteRulesFilters]) -> Result<Compiled, String> {
    let mut compiled = Compiled::default();
    for filter in list {
        let unsupported = [
            (filter.extension_ref.is_some(), "ExtensionRef"),
            (filter.cors.is_some(), "CORS"),
            (filter.external_auth.is_some(), "ExternalAuth"),
        ];
        if let Some((_, name)) = unsupported.into_iter().find(|(present, _)| *present) {
            return Err(format!("the filter {name} is not supported"));
        }
        if let Some(changes) = &filter.request_header_modifier {
            add(&mut compiled.filters.request_headers, changes)?;
        }
        if let Some(changes) = &filter.response_header_modifier {
            add(&mut compiled.filters.response_headers, &same(changes)?)?;
        }
        if let Some(found) = &filter.request_redirect {
            compiled.filters.redirect = Some(redirect(found)?);
        }
        if let Some(found) = &filter.url_rewrite {
            compiled.filters.rewrite = Some(rewrite(found)?);
        }
        compiled.mirrors.extend(filter.request_mirror.clone());
    }
    Ok(compiled)
}

/// The filters of a backendRef have types of their own in the generated crate, with the same fields.
pub(super) fn same<T: serde::de::DeserializeOwned>(other: &impl Serialize) -> Result<T, String> {
    serde_json::to_value(other).and_then(serde_json::from_value).map_err(|error| error.to_string())
}

fn add(changes: &mut HeaderChanges, found: &HttpRouteRulesFiltersRequestHeaderModifier) -> Result<(), String> {
    for header in found.set.iter().flatten() {
        changes.set.push(pair(&header.name, &header.value)?);
    }
    for header in found.add.iter().flatten() {
        changes.add.push(pair(&header.name, &header.value)?);
    }
    for header in found.remove.iter().flatten() {
        changes.remove.push(name(header)?);
    }
    Ok(())
}

fn pair(header: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let value =
        HeaderValue::try_from(value).map_err(|_| format!("the value of header {header} holds control characters"))?;
    Ok((name(header)?, value))
}

fn name(header: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(header).map_err(|_| format!("{header:?} is not a header name"))
}

fn redirect(found: &HttpRouteRulesFiltersRequestRedirect) -> Result<Redirect, String> {
    Ok(Redirect {
        scheme: found.scheme.as_ref().map(|scheme| match scheme {
            HttpRouteRulesFiltersRequestRedirectScheme::Http => "http".to_owned(),
            HttpRouteRulesFiltersRequestRedirectScheme::Https => "https".to_owned(),
        }),
        hostname: found.hostname.clone(),
        path: found.path.as_ref().map(path),
        port: found.port.map(|port| u16::try_from(port).map_err(|_| format!("{port} is no port"))).transpose()?,
        status: found.status_code.map_or(Ok(302), u16::try_from).map_err(|error| error.to_string())?,
    })
}

fn rewrite(found: &HttpRouteRulesFiltersUrlRewrite) -> Result<UrlRewrite, String> {
    let hostname = found.hostname.as_ref().map(HeaderValue::try_from).transpose().map_err(|error| error.to_string())?;
    let path = found.path.as_ref().map(same).transpose()?.as_ref().map(path);
    Ok(UrlRewrite { hostname, path })
}

fn path(found: &HttpRouteRulesFiltersRequestRedirectPath) -> PathRewrite {
    match (&found.replace_full_path, &found.replace_prefix_match) {
        (Some(full), _) => PathRewrite::Full(full.clone()),
        (None, prefix) => PathRewrite::Prefix(prefix.clone().unwrap_or_default()),
    }
}
