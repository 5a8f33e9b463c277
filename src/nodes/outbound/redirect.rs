//! Where a redirect leads, and what of the request goes along: as `fetch` has it, and nothing secret to another origin.

use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HOST,
    HeaderMap, LOCATION, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use reqwest::{Method, StatusCode};

use super::{OutboundError, Request, host_of};

/// The request that a response asks for instead; none if it is no redirect.
pub(super) fn follow(
    request: &Request,
    status: StatusCode,
    headers: &HeaderMap,
    allow_downgrade: bool,
) -> Result<Option<Request>, OutboundError> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = headers.get(LOCATION) else { return Ok(None) };
    let stopped = |to: String, why: String| OutboundError::Redirect { host: host_of(&request.url), to, why };
    let target = location.to_str().ok().and_then(|location| request.url.join(location).ok());
    let Some(url) = target.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) else {
        return Err(stopped("somewhere else".into(), "it is no http or https URL".into()));
    };
    if request.url.scheme() == "https" && url.scheme() == "http" && !allow_downgrade {
        return Err(stopped(host_of(&url), "it leads from https to http; outbound.allow_downgrade isn't set".into()));
    }
    let mut next = Request { url, ..request.clone() };
    let becomes_get = match status.as_u16() {
        301 | 302 => next.method == Method::POST,
        303 => next.method != Method::HEAD,
        _ => false,
    };
    if becomes_get && next.method != Method::GET {
        next.method = Method::GET;
        next.body = None;
        next.secret_in_body = None;
        let about_body =
            [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, TRANSFER_ENCODING];
        about_body.iter().for_each(|name| drop(next.headers.remove(name)));
    }
    if next.url.origin() != request.url.origin() {
        if let Some(secret) = &next.secret_in_body {
            return Err(stopped(host_of(&next.url), format!("the body holds the secret {secret}")));
        }
        [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, HOST].iter().for_each(|name| drop(next.headers.remove(name)));
        // Marked so where a secret was put in.
        let secret: Vec<_> =
            next.headers.iter().filter(|(_, value)| value.is_sensitive()).map(|(name, _)| name.clone()).collect();
        secret.iter().for_each(|name| drop(next.headers.remove(name)));
    }
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reqwest::header::HeaderValue;
    use url::Url;

    use super::*;

    fn request(method: Method, url: &str) -> Request {
        let mut headers = HeaderMap::new();
        for (name, value) in [(AUTHORIZATION, "a"), (COOKIE, "c"), (CONTENT_TYPE, "text/plain")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("x-plain", HeaderValue::from_static("p"));
        let mut secret = HeaderValue::from_static("s");
        secret.set_sensitive(true);
        headers.insert("x-key", secret);
        let url = Url::parse(url).unwrap();
        Request { method, url, headers, body: Some(Bytes::from_static(b"body")), secret_in_body: None }
    }

    fn next(request: &Request, status: u16, location: &str) -> Result<Option<Request>, OutboundError> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(location).unwrap())]);
        follow(request, StatusCode::from_u16(status).unwrap(), &headers, false)
    }

    #[test]
    fn methods_and_bodies_change_as_in_fetch() {
        for (method, status, becomes, body) in [
            (Method::POST, 301, Method::GET, false),
            (Method::POST, 302, Method::GET, false),
            (Method::PUT, 302, Method::PUT, true),
            (Method::PUT, 303, Method::GET, false),
            (Method::HEAD, 303, Method::HEAD, true),
            (Method::POST, 307, Method::POST, true),
            (Method::DELETE, 308, Method::DELETE, true),
        ] {
            let next = next(&request(method.clone(), "https://a.example/x"), status, "/y").unwrap().unwrap();
            assert_eq!((next.method, next.body.is_some()), (becomes, body), "{method} {status}");
            assert_eq!(next.headers.contains_key(CONTENT_TYPE), body);
            assert_eq!(next.url.as_str(), "https://a.example/y");
            assert!(next.headers.contains_key(AUTHORIZATION) && next.headers.contains_key("x-key"));
        }
        let request = request(Method::GET, "https://a.example/x");
        assert!(next(&request, 304, "/y").unwrap().is_none());
        assert!(follow(&request, StatusCode::FOUND, &HeaderMap::new(), false).unwrap().is_none());
    }

    #[test]
    fn nothing_secret_goes_to_another_origin() {
        let mut request = request(Method::POST, "https://a.example/x?secret");
        for other in ["https://b.example/", "//a.example:444/", "https://sub.a.example/"] {
            let next = next(&request, 307, other).unwrap().unwrap();
            let names: Vec<_> = next.headers.keys().map(|name| name.as_str()).collect();
            assert_eq!(names, ["content-type", "x-plain"], "{other}");
        }
        request.secret_in_body = Some("KEY".into());
        let error = next(&request, 307, "https://b.example/path").unwrap_err().to_string();
        assert!(error.contains("a.example redirects to b.example") && error.contains("KEY"), "{error}");
        assert!(next(&request, 303, "https://b.example/").unwrap().is_some());
        assert!(next(&request, 307, "https://a.example/").unwrap().is_some());
    }

    #[test]
    fn bad_targets_are_not_followed() {
        let request = request(Method::GET, "https://a.example/x?secret");
        for (location, words) in [
            ("http://a.example/secret", "from https to http"),
            ("file:///etc/secret", "no http or https URL"),
            ("https://", "no http or https URL"),
            ("data:text/plain,secret", "no http or https URL"),
        ] {
            let error = next(&request, 302, location).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("secret"), "{error}");
        }
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("http://a.example/"))]);
        assert!(follow(&request, StatusCode::FOUND, &headers, true).unwrap().is_some());
    }
}
