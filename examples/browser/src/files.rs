//! The files of the page that are not built from its library.

use std::path::Path;

use axum::{Router, routing::get};
use libp2p_websocket_star::StarAddr;

use crate::site::{self, Page};

/// Returns the parts of the page. `workspace` is the folder of the workspace.
pub fn page(workspace: &Path) -> Page<'_> {
    Page {
        workspace,
        package: "star-browser-example",
        features: &[],
        profile: "page",
        folder: "example",
        files: &[
            ("index.html", include_str!("../page/index.html")),
            ("style.css", include_str!("../page/style.css")),
            ("start.js", include_str!("../page/start.js")),
        ],
    }
}

/// Serves the page, and the address of the rendezvous at `/rendezvous`, where the page asks for it.
pub fn router(folder: &Path, rendezvous: &StarAddr) -> Router {
    let rendezvous = rendezvous.to_multiaddr().to_string();
    site::router(folder).route("/rendezvous", get(async move || rendezvous))
}
