//! The page as HTML. maud escapes all text that comes from outside.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    look::{Look, Now},
    peers::{Peer, Peers},
    picture::Picture,
    request::Search,
    units,
};
use crate::rendezvous::usage::PeerUsage;

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");

/// The warnings at the top of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Warnings {
    /// Whether others on the network may read what is sent.
    pub(super) is_overheard: bool,
    /// Whether peers join without a proof of their keys.
    pub(super) is_unproved: bool,
    /// Whether the last change of the bans could not be written.
    pub(super) is_behind: bool,
}

impl Warnings {
    fn html(self) -> Markup {
        html! {
            @if self.is_overheard {
                p class="warning" {
                    strong { "Not encrypted. " }
                    "Others on the network between you and the server can read the token and take over the page. "
                    "Use TLS, or open the page on the server's own machine."
                }
            }
            @if self.is_unproved {
                p class="warning" {
                    strong { "Peers do not prove their keys. " }
                    "A peer can claim any peer id, so a banned peer can come back under another one."
                }
            }
            @if self.is_behind {
                p class="warning" {
                    strong { "The bans could not be saved. " }
                    "Changes that are not saved hold until the server stops. It tries again, and its log says what is wrong."
                }
            }
        }
    }
}

fn document(title: &str, script: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                @if let Some(script) = script {
                    script { (PreEscaped(script)) }
                }
            }
        }
    }
}

/// Returns the page that asks for the token. `problem` says what was wrong with the last token.
pub(super) fn login(is_overheard: bool, problem: Option<&str>) -> Markup {
    let body = html! {
        main class="login" {
            h1 { "Rendezvous: log in" }
            @if is_overheard {
                p class="warning" {
                    strong { "Not encrypted. " }
                    "Others on the network between you and the server can read the token."
                }
            }
            @if let Some(problem) = problem {
                p class="warning" role="alert" id="problem" { (problem) }
            }
            form method="post" action="/admin/login" {
                label for="token" { "Operator's token" }
                input id="token" name="token" type="password" autocomplete="current-password" required
                    autofocus aria-describedby=[problem.map(|_| "problem")];
                button type="submit" { "Log in" }
            }
        }
    };
    document("Rendezvous: log in", None, &body)
}

/// Everything that a page shows.
pub(super) struct Page<'a> {
    /// The secret in the page's forms; `None` if the page was requested with the token.
    pub(super) form: Option<&'a str>,
    /// The result of the operator's last action.
    pub(super) news: Option<&'a str>,
    pub(super) warnings: Warnings,
    pub(super) look: &'a Look,
    pub(super) search: &'a Search,
    pub(super) peers: &'a Peers,
    pub(super) bans: &'a Bans,
}

/// The bans that a page shows.
pub(super) struct Bans {
    pub(super) some: Vec<String>,
    pub(super) all: usize,
    /// Whether the bans outlive the process.
    pub(super) are_kept: bool,
}

impl Page<'_> {
    pub(super) fn html(&self) -> Markup {
        let body = html! {
            header {
                h1 { "Rendezvous" }
                p id="state" role="status" { "not live" }
                // The script shows this button. Without the script, the page does not change by itself.
                button type="button" id="pause" hidden { "Pause" }
                a class="button" href=(self.search.path()) { "Reload" }
                @if let Some(form) = self.form {
                    form method="post" action="/admin/logout" {
                        input type="hidden" name="form" value=(form);
                        button type="submit" { "Log out" }
                    }
                }
            }
            main {
                (self.warnings.html())
                @if let Some(news) = self.news {
                    p id="news" role="status" tabindex="-1" { (news) }
                }
                div id="figures" { (figures(&self.look.now)) }
                section aria-labelledby="hour" {
                    h2 id="hour" { "The last hour" }
                    div id="pictures" { (pictures(self.look)) }
                }
                (self.peers_section())
                (cluster_section(&self.look.now))
                section aria-labelledby="top" {
                    h2 id="top" { "Heaviest senders today" }
                    div id="users" { (users(&self.look.users)) }
                }
                section aria-labelledby="refused" {
                    h2 id="refused" { "Refused and closed since the start" }
                    div id="refusals" { (refusals(&self.look.now)) }
                }
                (self.bans_section())
            }
        };
        document("Rendezvous", Some(SCRIPT), &body)
    }

    fn peers_section(&self) -> Markup {
        html! {
            section aria-labelledby="joined" {
                h2 id="joined" { "Peers" }
                form method="get" action="/admin" role="search" class="line" {
                    label for="id" { "Peer id begins with" }
                    input id="id" name="id" type="search" value=(self.search.id) autocomplete="off" spellcheck="false";
                    button type="submit" { "Search" }
                }
                div id="peers" { (peers(self.form, self.search, self.peers)) }
            }
        }
    }

    fn bans_section(&self) -> Markup {
        let Bans {
            some,
            all,
            are_kept,
        } = self.bans;
        let holds = match are_kept {
            true => "Bans are saved, and still hold after a restart.",
            false => "Bans hold until the server stops, because no place to save them is set.",
        };
        html! {
            section aria-labelledby="bans" {
                h2 id="bans" { "Banned peers" }
                p {
                    (holds) " A banned peer is disconnected at once and may not join. "
                    "A person with a new key is a new peer. To keep a person out, use a list of allowed peers, tokens, or denied "
                    "networks."
                }
                form method="post" action="/admin/ban" class="line" {
                    (self.hidden())
                    label for="peer" { "Peer id" }
                    input id="peer" name="peer" required autocomplete="off" spellcheck="false";
                    button type="submit" class="danger" { "Ban" }
                }
                @if some.is_empty() {
                    p { @if *all == 0 { "No peer is banned." } @else { "No banned peer has an id that begins like this." } }
                } @else {
                    form method="post" action="/admin/unban" {
                        (self.hidden())
                        ul class="bans" {
                            @for peer in some {
                                li {
                                    code { (peer) }
                                    button type="submit" name="peer" value=(peer) aria-label={ "Unban " (peer) } { "Unban" }
                                }
                            }
                        }
                    }
                }
                @if some.len() < *all {
                    p { (units::counted(*all as u64, "peer is", "peers are")) " banned in all. The search above also finds the others." }
                }
            }
        }
    }

    fn hidden(&self) -> Markup {
        hidden(self.form, self.search)
    }
}

/// Returns the hidden fields of a form.
fn hidden(form: Option<&str>, search: &Search) -> Markup {
    html! {
        @if let Some(form) = form {
            input type="hidden" name="form" value=(form);
        }
        input type="hidden" name="id" value=(search.id);
        input type="hidden" name="tenant" value=(search.tenant);
        input type="hidden" name="after" value=(search.after);
    }
}

/// Returns the current figures.
pub(super) fn figures(now: &Now) -> Markup {
    let snapshot = &now.figures.snapshot;
    let count = |number: usize| units::count(number as u64);
    // The version changes whenever the list of peers does.
    let version = format!("{} {}", snapshot.counters.joins, now.figures.peers);
    html! {
        dl data-version=(version) {
            div { dt { "Peers" } dd { (count(now.figures.peers)) } }
            div { dt { "Links" } dd { (count(snapshot.links)) } }
            div { dt { "Dials" } dd { (count(snapshot.dials)) } }
            div { dt { "Relayed per second" } dd { (units::bytes(now.sample.rate)) } }
            div { dt { "Relayed in total" } dd { (units::bytes(snapshot.relayed_bytes)) } }
            div { dt { "Connections" } dd { (count(snapshot.connections)) } }
            div { dt { "Memory of links" } dd { (units::bytes(snapshot.memory_bytes)) } }
            div { dt { "Running for" } dd { (units::span(now.runs_for)) } }
        }
    }
}

/// Returns the section about the cluster, if the server is a node of one.
#[cfg(feature = "cluster")]
fn cluster_section(now: &Now) -> Markup {
    html! {
        @if now.figures.snapshot.cluster.is_some() {
            section aria-labelledby="nodes" {
                h2 id="nodes" { "Other nodes of the cluster" }
                div id="cluster" { (cluster(now)) }
            }
        }
    }
}

#[cfg(not(feature = "cluster"))]
fn cluster_section(_: &Now) -> Markup {
    html! {}
}

/// Returns the state of the directory and of the trunks to the other nodes.
#[cfg(feature = "cluster")]
pub(super) fn cluster(now: &Now) -> Markup {
    let Some(status) = &now.figures.snapshot.cluster else {
        return html! {};
    };
    let age = status
        .directory_age
        .map_or_else(|| "never".to_owned(), units::span);
    let (remote, unwritten) = (status.remote_peers as u64, status.unwritten as u64);
    html! {
        p {
            @if !status.is_watched {
                strong { "The directory cannot be reached. " }
            }
            "Last up to date: " (age) @if status.directory_age.is_some() { " ago" } ". "
            (units::counted(remote, "peer is", "peers are")) " joined at other nodes. "
            (units::counted(unwritten, "change here is", "changes here are")) " not in the directory yet. "
            (units::counted(status.conflicts, "join", "joins")) " here lost to a later join at another node."
        }
        @if status.each.is_empty() {
            p { "There is no other node." }
        } @else {
            table role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        th scope="col" role="columnheader" { "Node" }
                        th scope="col" role="columnheader" { "Trunk" }
                        th scope="col" role="columnheader" class="number" { "Answers in" }
                        th scope="col" role="columnheader" class="number" { "Streams" }
                        th scope="col" role="columnheader" class="number" { "Stalled" }
                        th scope="col" role="columnheader" class="number" { "Sent" }
                        th scope="col" role="columnheader" class="number" { "Received" }
                        th scope="col" role="columnheader" class="number" { "Cut" }
                    }
                }
                tbody role="rowgroup" {
                    @for trunk in &status.each {
                        @let answer = trunk.round_trip.map_or_else(String::new, |time| format!("{:.1} ms", time.as_secs_f64() * 1000.0));
                        @let cuts = trunk.cuts.iter().map(|(_, count)| count).sum();
                        tr role="row" {
                            th scope="row" role="rowheader" { (trunk.node) }
                            td role="cell" data-label="Trunk" { @if trunk.is_open { "open" } @else { strong { "not open" } } }
                            td role="cell" class="number" data-label="Answers in" { (answer) }
                            td role="cell" class="number" data-label="Streams" { (units::count(trunk.streams as u64)) }
                            td role="cell" class="number" data-label="Stalled" { (units::count(trunk.stalled as u64)) }
                            td role="cell" class="number" data-label="Sent" { (units::bytes(trunk.sent_bytes)) }
                            td role="cell" class="number" data-label="Received" { (units::bytes(trunk.received_bytes)) }
                            td role="cell" class="number" data-label="Cut" { (units::count(cuts)) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the pictures of the last hour.
pub(super) fn pictures(look: &Look) -> Markup {
    let [rate, peers, links, dials] = look.columns;
    let now = look.now.sample;
    let each = [
        (
            "Bytes per second",
            rate,
            now.rate,
            units::bytes as fn(u64) -> String,
        ),
        ("Peers", peers, now.peers, units::count),
        ("Links", links, now.links, units::count),
        ("Dials", dials, now.dials, units::count),
    ];
    let pictures = each.map(|(title, columns, now, written)| Picture {
        title,
        columns,
        now,
        written,
    });
    html! {
        @for picture in pictures { (picture.draw()) }
    }
}

// The tables state their ARIA roles explicitly. On narrow screens the style shows table elements as blocks, and some
// browsers then drop the implicit roles.

/// Returns the reasons for refusals with their counts, the most frequent first.
pub(super) fn refusals(now: &Now) -> Markup {
    let refusals = now.figures.snapshot.refusals.iter();
    let mut counted: Vec<_> = refusals.filter(|(_, count)| *count > 0).collect();
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    html! {
        @if counted.is_empty() {
            p { "Nothing." }
        } @else {
            table role="table" {
                thead role="rowgroup" { tr role="row" { th scope="col" role="columnheader" { "Reason" } th scope="col" role="columnheader" class="number" { "How often" } } }
                tbody role="rowgroup" {
                    @for (reason, count) in counted {
                        tr role="row" {
                            th scope="row" role="rowheader" { (reason.to_string().replace('_', " ")) }
                            td role="cell" class="number" data-label="How often" { (units::count(count)) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the heaviest senders.
pub(super) fn users(users: &[PeerUsage]) -> Markup {
    html! {
        @if users.is_empty() {
            p { "No peer has sent anything." }
        } @else {
            table role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        th scope="col" role="columnheader" { "Peer" }
                        th scope="col" role="columnheader" { "From" }
                        th scope="col" role="columnheader" class="number" { "Sent today" }
                        th scope="col" role="columnheader" class="number" { "Per second" }
                    }
                }
                tbody role="rowgroup" {
                    @for user in users {
                        @let search = Search { id: user.peer.to_base58(), ..Search::default() };
                        tr role="row" {
                            th scope="row" role="rowheader" {
                                a href=(search.path()) { code { (search.id) } }
                                @if let Some(tenant) = &user.tenant { span class="address" { "tenant " (tenant) } }
                            }
                            td role="cell" data-label="From" { (user.client) }
                            td role="cell" class="number" data-label="Sent today" { (units::bytes(user.sent_today)) }
                            td role="cell" class="number" data-label="Per second" { (units::bytes(user.sent_per_second)) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns some of the peers, with buttons to disconnect or ban each of them.
pub(super) fn peers(form: Option<&str>, search: &Search, peers: &Peers) -> Markup {
    let next = peers.some.last().filter(|_| peers.has_more);
    let next = next.map(|last| Search {
        id: search.id.clone(),
        tenant: last.tenant.clone(),
        after: last.address.to_string(),
    });
    let first = Search {
        id: search.id.clone(),
        ..Search::default()
    };
    html! {
        @if peers.some.is_empty() {
            p { "No peer has joined, or none matches the search." }
        } @else {
            form method="post" action="/admin/disconnect" {
                (hidden(form, search))
                table class="peers" role="table" {
                    thead role="rowgroup" {
                        tr role="row" {
                            th scope="col" role="columnheader" { "Peer, and its address" }
                            th scope="col" role="columnheader" { "From" }
                            th scope="col" role="columnheader" class="number" { "Dials" }
                            th scope="col" role="columnheader" { "Action" }
                        }
                    }
                    tbody role="rowgroup" { @for peer in &peers.some { (row(peer, peers.of_tenants)) } }
                }
            }
        }
        nav aria-label="Pages of peers" {
            @if !search.after.is_empty() { a class="button" href=(first.path()) { "First page" } }
            @if let Some(next) = next { a class="button" href=(next.path()) { "Next page" } }
        }
    }
}

fn row(peer: &Peer, of_tenants: bool) -> Markup {
    let id = peer.id.map(|id| id.to_base58());
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                @if let Some(id) = &id { code { (id) } }
                span class="address" { (*peer.address) @if of_tenants { ", tenant " (peer.tenant) } }
            }
            td role="cell" data-label="From" { @if let Some(client) = peer.client { (client) } }
            td role="cell" class="number" data-label="Dials" { (units::count(peer.dials as u64)) }
            td role="cell" class="actions" {
                @if let Some(id) = &id {
                    button type="submit" name="peer" value=(id) aria-label={ "Disconnect " (id) } { "Disconnect" }
                    button type="submit" name="peer" value=(id) aria-label={ "Ban " (id) } formaction="/admin/ban"
                        class="danger" { "Ban" }
                }
            }
        }
    }
}
