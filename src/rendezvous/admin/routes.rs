//! Routes the requests for the operator's page, and checks who may make them.

use std::sync::Arc;

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{HeaderMap, HeaderValue, SET_COOKIE},
    http::request::Parts,
};
use tokio::sync::Mutex;

use super::{
    Panel,
    actions::Action,
    answers::{self, last, later, see_other, text, with_challenge},
    events,
    look::Look,
    page::{self, Bans, Page, Warnings},
    peers::{ON_PAGE, Peers},
    request::{Form, FormError, Search, Visitor, is_of_a_page, is_own, may_see, session_ids},
    sessions::{AGE, Session},
};
use crate::{
    rendezvous::{
        body::Body, operator::Guessed, refusals::Refused, request::token_shown, tenants::Tenants,
    },
    runtime::now,
};

const PATH: &str = "/admin";
const NO_TOKEN: &str = "Send the token, or log in\n";
const WRONG: &str = "That is not the token.";
const TOO_OFTEN: &str = "Too many wrong tokens from your address: try again in a few seconds.";
const NOT_OWN: &str = "Only a page of this server may do that\n";

/// Returns whether a path belongs to the operator's page.
pub(in crate::rendezvous) fn is_asked_for(path: &str) -> bool {
    let rest = path.strip_prefix(PATH);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Front,
    Peers,
    Events,
    LogIn,
    LogOut,
    Act(Action),
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path.strip_prefix(PATH)? {
            "" | "/" => Self::Front,
            "/peers" => Self::Peers,
            "/events" => Self::Events,
            "/login" => Self::LogIn,
            "/logout" => Self::LogOut,
            "/disconnect" => Self::Act(Action::Disconnect),
            "/ban" => Self::Act(Action::Ban),
            "/unban" => Self::Act(Action::Unban),
            _ => return None,
        })
    }

    /// Returns the HTTP methods of the route.
    fn methods(self) -> &'static str {
        match self {
            Self::Front | Self::Peers => "GET, HEAD",
            Self::Events => "GET",
            Self::LogIn | Self::LogOut | Self::Act(_) => "POST",
        }
    }

    fn takes(self, method: &Method) -> bool {
        self.methods()
            .split(", ")
            .any(|name| name == method.as_str())
    }
}

/// What a client was let in with.
#[derive(Debug)]
enum Authority {
    Session(Session),
    Token,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stranger {
    ShowsNothing,
    IsWrong,
    AsksTooOften,
}

impl Authority {
    fn session(&self) -> Option<&Session> {
        match self {
            Self::Session(session) => Some(session),
            Self::Token => None,
        }
    }
}

impl Panel {
    /// Answers a request. An answer that goes on for longer than connections do holds `lasting`.
    pub(in crate::rendezvous) async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        visitor: Visitor,
        tenants: Arc<Tenants>,
        lasting: Arc<Mutex<()>>,
    ) -> Response<Body> {
        if visitor.is_local() && visitor.is_of_untrusted_proxy {
            self.told_of_proxy.call_once(|| {
                tracing::warn!(
                    "the operator's page is requested through a proxy on this machine that is not trusted, so the server cannot know \
                     whether TLS is used, and counts all clients behind the proxy as one; make it a trusted proxy"
                );
            });
        }
        let (parts, body) = request.into_parts();
        let Some(route) = Route::of(parts.uri.path()) else {
            return last(text(StatusCode::NOT_FOUND, "Not found\n"));
        };
        if !route.takes(&parts.method) {
            return answers::only(route.methods());
        }
        if route == Route::LogIn {
            return self.log_in(&parts.headers, body, &visitor, &tenants).await;
        }
        let authority = match self.authority(&parts.headers, &visitor, &tenants).await {
            Ok(authority) => authority,
            Err(stranger) => return refuse(stranger, route, &visitor),
        };
        match route {
            Route::Front | Route::Peers | Route::Events => {
                let is_front = route == Route::Front;
                if !may_see(&parts.headers, is_front) {
                    return last(text(StatusCode::FORBIDDEN, NOT_OWN));
                }
                if route == Route::Events {
                    return self.events(&authority, tenants, lasting);
                }
                let search = Search::of_uri(&parts.uri);
                let peers = Peers::find(&tenants, &search).await;
                match is_front {
                    true => {
                        let look = self.look(&tenants).await;
                        let is_read = parts.method != Method::HEAD;
                        self.front(&authority, &visitor, &search, &peers, &look, is_read)
                    }
                    false => {
                        let form = authority.session().map(|session| session.form.as_str());
                        answers::page(StatusCode::OK, page::peers(form, &search, &peers))
                    }
                }
            }
            Route::LogIn | Route::LogOut => {
                self.log_out(&authority, &parts.headers, body, &visitor, &tenants)
                    .await
            }
            Route::Act(action) => {
                self.act(action, &authority, &parts, body, &visitor, &tenants)
                    .await
            }
        }
    }

    /// Identifies the client: by the token if it shows one, else by the session.
    async fn authority(
        &self,
        headers: &HeaderMap,
        visitor: &Visitor,
        tenants: &Tenants,
    ) -> Result<Authority, Stranger> {
        if let Some(token) = token_shown(headers) {
            return match self.guess(token.reveal(), visitor, tenants).await {
                Guessed::Right => Ok(Authority::Token),
                Guessed::Wrong => Err(Stranger::IsWrong),
                Guessed::TooOften => Err(Stranger::AsksTooOften),
            };
        }
        let mut sessions = self.sessions();
        let session = session_ids(headers, visitor).find_map(|id| sessions.find(id, now()));
        session
            .map(Authority::Session)
            .ok_or(Stranger::ShowsNothing)
    }

    async fn guess(&self, shown: &str, visitor: &Visitor, tenants: &Tenants) -> Guessed {
        let guessed = self
            .guesses
            .guess(shown.as_bytes(), &visitor.claimant)
            .await;
        match guessed {
            Guessed::Right => {}
            Guessed::Wrong => {
                tenants
                    .house()
                    .admission()
                    .count_refused(Refused::WrongAdminToken);
                if let Some(left_out) = self.wrong_tokens.admit(now()) {
                    let client = visitor.client;
                    tracing::warn!(%client, left_out, "a wrong token for the operator's page");
                }
            }
            Guessed::TooOften => tenants
                .house()
                .admission()
                .count_refused(Refused::RequestRate),
        }
        guessed
    }

    async fn log_in(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        visitor: &Visitor,
        tenants: &Tenants,
    ) -> Response<Body> {
        if !is_own(headers, visitor.is_secure) {
            return last(text(StatusCode::FORBIDDEN, NOT_OWN));
        }
        let form = match read(headers, body, tenants).await {
            Ok(form) => form,
            Err(error) => return no_form(error),
        };
        let again = |status, problem| {
            let html = page::login(visitor.is_overheard(), Some(problem));
            answers::page(status, html)
        };
        // People copy a space together with the token.
        match self.guess(form.get("token").trim(), visitor, tenants).await {
            Guessed::Wrong => return with_challenge(again(StatusCode::UNAUTHORIZED, WRONG)),
            Guessed::TooOften => return later(again(StatusCode::TOO_MANY_REQUESTS, TOO_OFTEN)),
            Guessed::Right => {}
        }
        let id = {
            let mut sessions = self.sessions();
            let before = session_ids(headers, visitor).find_map(|id| sessions.find(id, now()));
            if let Some(before) = before {
                sessions.end(&before.key);
            }
            sessions.begin(now())
        };
        tracing::info!(client = %visitor.client, "the operator has logged in");
        with_cookie(see_other(PATH), &id, AGE.as_secs(), visitor)
    }

    /// Reads a form that changes something. It must come from a page of this server, or from a script with the token.
    async fn form(
        &self,
        authority: &Authority,
        headers: &HeaderMap,
        body: Incoming,
        visitor: &Visitor,
        tenants: &Tenants,
    ) -> Result<Form, Response<Body>> {
        let session = authority.session();
        let must_be_own = session.is_some() || is_of_a_page(headers);
        if must_be_own && !is_own(headers, visitor.is_secure) {
            return Err(last(text(StatusCode::FORBIDDEN, NOT_OWN)));
        }
        let form = read(headers, body, tenants).await.map_err(no_form)?;
        match session {
            Some(session) if !session.has_made(form.get("form").as_bytes()) => {
                Err(text(StatusCode::FORBIDDEN, NOT_OWN))
            }
            // The session may have ended while the form was on its way.
            Some(session) if !self.sessions().goes_on(&session.key, now()) => {
                Err(with_challenge(text(StatusCode::UNAUTHORIZED, NO_TOKEN)))
            }
            _ => Ok(form),
        }
    }

    async fn log_out(
        &self,
        authority: &Authority,
        headers: &HeaderMap,
        body: Incoming,
        visitor: &Visitor,
        tenants: &Tenants,
    ) -> Response<Body> {
        let form = self.form(authority, headers, body, visitor, tenants).await;
        if let Err(refusal) = form {
            return refusal;
        }
        if let Authority::Session(session) = authority {
            self.sessions().end(&session.key);
        }
        with_cookie(see_other(PATH), "", 0, visitor)
    }

    async fn act(
        self: &Arc<Self>,
        action: Action,
        authority: &Authority,
        parts: &Parts,
        body: Incoming,
        visitor: &Visitor,
        tenants: &Arc<Tenants>,
    ) -> Response<Body> {
        let form = self
            .form(authority, &parts.headers, body, visitor, tenants)
            .await;
        let form = match form {
            Ok(form) => form,
            Err(refusal) => return refusal,
        };
        let done = action
            .start(&form.get("peer"), visitor.client, self, tenants)
            .await;
        let (status, news) = match done {
            Ok(done) => (StatusCode::OK, done.to_string()),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        };
        match authority {
            Authority::Token => text(status, &format!("{news}\n")),
            Authority::Session(session) => {
                self.sessions().tell(&session.key, news, now());
                let path = Search::of_form(&form).path();
                see_other(&format!("{path}#news"))
            }
        }
    }

    fn events(
        self: &Arc<Self>,
        authority: &Authority,
        tenants: Arc<Tenants>,
        lasting: Arc<Mutex<()>>,
    ) -> Response<Body> {
        let place = self.listeners.clone().try_acquire_owned();
        let (Ok(place), Ok(lasting)) = (place, lasting.try_lock_owned()) else {
            let too_many = "Too many pages are live at once\n";
            return later(text(StatusCode::SERVICE_UNAVAILABLE, too_many));
        };
        let key = authority.session().map(|session| session.key);
        answers::events(events::listen(self.clone(), tenants, key, place, lasting))
    }

    fn front(
        &self,
        authority: &Authority,
        visitor: &Visitor,
        search: &Search,
        peers: &Peers,
        look: &Look,
        is_read: bool,
    ) -> Response<Body> {
        let session = authority.session();
        // The message is shown once. A HEAD request does not show it, and so does not use it up.
        let told = session.filter(|_| is_read);
        let news = told.and_then(|session| self.sessions().take_news(&session.key, now()));
        let bans = Bans {
            some: self.bans.some(&search.id, ON_PAGE),
            all: self.bans.len(),
            are_kept: self.bans.is_kept(),
        };
        let page = Page {
            form: session.map(|session| session.form.as_str()),
            news: news.as_deref(),
            warnings: Warnings {
                is_overheard: visitor.is_overheard(),
                is_unproved: self.is_unproved,
                is_behind: self.bans.is_behind(),
            },
            look,
            search,
            peers,
            bans: &bans,
        };
        answers::page(StatusCode::OK, page.html())
    }
}

async fn read(headers: &HeaderMap, body: Incoming, tenants: &Tenants) -> Result<Form, FormError> {
    Form::read(headers, body, tenants.config().limits().handshake_timeout).await
}

fn no_form(error: FormError) -> Response<Body> {
    let status = match error {
        FormError::Type => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        FormError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        FormError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        FormError::Broken => StatusCode::BAD_REQUEST,
    };
    last(text(status, &error.to_string()))
}

/// Answers a client that is not let in.
fn refuse(stranger: Stranger, route: Route, visitor: &Visitor) -> Response<Body> {
    match stranger {
        Stranger::ShowsNothing if route == Route::Front => {
            answers::page(StatusCode::OK, page::login(visitor.is_overheard(), None))
        }
        Stranger::ShowsNothing => last(with_challenge(text(StatusCode::UNAUTHORIZED, NO_TOKEN))),
        Stranger::IsWrong => {
            let wrong = text(StatusCode::UNAUTHORIZED, &format!("{WRONG}\n"));
            last(with_challenge(wrong))
        }
        Stranger::AsksTooOften => {
            let often = text(StatusCode::TOO_MANY_REQUESTS, &format!("{TOO_OFTEN}\n"));
            last(later(often))
        }
    }
}

/// Has the browser show this session id from now on, for this many seconds.
fn with_cookie(
    mut response: Response<Body>,
    id: &str,
    seconds: u64,
    visitor: &Visitor,
) -> Response<Body> {
    let name = visitor.cookie_name();
    // The `__Host-` prefix of the cookie's name requires the path `/` and `Secure`.
    let (path, secure) = match visitor.is_secure {
        true => ("/", "; Secure"),
        false => (PATH, ""),
    };
    let cookie =
        format!("{name}={id}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}
