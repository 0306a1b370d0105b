//! The page with the node in it: built once, and served from this machine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tower_http::services::ServeDir;

const HTML: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>star</title>
<script type="module">
    import init, { Node } from "./star_page.js";
    await init({ module_or_path: "star_page_bg.wasm" });
    window.StarNode = Node;
</script>
"#;

/// Serves the page until the runtime ends, and tells where.
pub async fn serve() -> SocketAddr {
    let files = tokio::task::spawn_blocking(|| files().to_owned());
    let files = files.await.expect("the page was built");
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let app = axum::Router::new().fallback_service(ServeDir::new(files));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Where the files are.
fn files() -> &'static Path {
    static FILES: OnceLock<PathBuf> = OnceLock::new();
    FILES.get_or_init(build)
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/browser");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--package", "star-page"])
        .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
        .arg(&target)
        .current_dir(root)
        .status();
    assert!(
        built.expect("cargo is there").success(),
        "the page was not built"
    );
    let files = target.join("page");
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen
        .input_path(target.join("wasm32-unknown-unknown/release/star_page.wasm"))
        .web(true)
        .expect("a target of wasm-bindgen");
    bindgen
        .generate(&files)
        .expect("the version of wasm-bindgen is that of the page");
    std::fs::write(files.join("index.html"), HTML).expect("a place for files");
    files
}
