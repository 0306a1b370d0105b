//! Commands that cannot start: exit status 2, and one line that gives the reason.

use crate::star::{command, ended, run};

const PEER: &str = "12D3KooWQxNqBBxzqhd64fgKTUoNAZDiCQ6BWKxuVWVKTBZgPmzG";

#[tokio::test]
async fn what_is_wrong_with_the_command_line_is_said() {
    let star = "ws://127.0.0.1:9";
    for (arguments, expected) in [
        (
            &["peers"][..],
            "no rendezvous is given: name one, or set STAR_RENDEZVOUS",
        ),
        (&["ping"], "no peer is given"),
        (&["ping", star], "no peer is given"),
        (
            &["ping", star, "nobody"],
            "\"nobody\" is not a valid peer id",
        ),
        (
            &["peers", star, "--token-file", "/nowhere/x"],
            "cannot read /nowhere/x: No such file",
        ),
        (
            &["peers", star, "--root-certificate", "/dev/null"],
            "not a root certificate",
        ),
        (&["peers", star, "--proxy", "ftp://x"], "cannot use a proxy"),
        (
            &["pipe", star, PEER, "--identity", "/nowhere/x"],
            "cannot create the identity /nowhere/x",
        ),
        (&["dance"], "unrecognized subcommand 'dance'"),
        (
            &["peers", "star.example"],
            "use an address such as /dns4/star.example/",
        ),
        (
            &["peers", star, "--for", "soon"],
            "must be a time such as 500ms",
        ),
        (&["ping", star, PEER, "-i", "1ms"], "must be at least 100ms"),
        (&["pipe", star, PEER, "--allow", PEER], "--listen"),
        (
            &["ping", star, PEER, "-c", "1", "surplus"],
            "too many arguments: surplus",
        ),
    ] {
        let said = run(arguments).await;
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
        assert_eq!(said.stdout, "", "{arguments:?}");
        assert_eq!(
            said.stderr.lines().count(),
            1,
            "{arguments:?}: {}",
            said.stderr
        );
        assert!(
            said.stderr.starts_with("star: "),
            "{arguments:?}: {}",
            said.stderr
        );
        assert!(
            said.stderr.contains(expected),
            "{arguments:?}: {}",
            said.stderr
        );
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_environment_is_said() {
    for (variable, value, expected) in [
        (
            "STAR_RENDEZVOUS",
            "nonsense",
            "STAR_RENDEZVOUS: not a multiaddr",
        ),
        ("STAR_TOKEN", "two words", "cannot use the token"),
        (
            "ALL_PROXY",
            "gopher://x",
            "cannot use a proxy: ALL_PROXY is not a valid proxy URL",
        ),
        ("RUST_LOG", "a=b=c", "RUST_LOG cannot be understood"),
    ] {
        let mut command = match variable {
            "STAR_RENDEZVOUS" => command(&["peers"]),
            _ => command(&["peers", "ws://127.0.0.1:9"]),
        };
        let said = ended(command.env(variable, value).spawn().expect("it runs")).await;
        assert_eq!(said.code, Some(2), "{variable}: {said:?}");
        assert!(
            said.stderr.contains(expected),
            "{variable}: {}",
            said.stderr
        );
        assert!(!said.stderr.contains("two words"), "{}", said.stderr);
    }
}

#[tokio::test]
async fn a_rendezvous_that_is_not_there_is_status_1() {
    let listener = tokio::net::TcpSocket::new_v4().expect("a socket");
    // The socket is bound but does not listen, so nothing else can use the port.
    listener
        .bind(([127, 0, 0, 1], 0).into())
        .expect("a free port");
    let star = format!("ws://{}", listener.local_addr().expect("bound"));
    for arguments in [
        &["peers", &star, "--once"][..],
        &["ping", &star, PEER],
        &["pipe", &star, PEER],
        &["pipe", &star, "--listen"],
    ] {
        let said = run(arguments).await;
        assert_eq!(said.code, Some(1), "{arguments:?}: {said:?}");
        let expected = format!("star: {star}: cannot connect: Connection refused (os error 111)\n");
        assert_eq!(said.stderr, expected, "{arguments:?}");
    }
}
