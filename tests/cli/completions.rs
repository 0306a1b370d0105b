//! Completion scripts, tested with the shell.

use tokio::process::Command;

use crate::{
    star::{command, run},
    support::{certificates::Folder, within},
};

#[tokio::test]
async fn bash_completes_the_commands() {
    let script = run(&["completions", "bash"]).await;
    assert_eq!(script.code, Some(0), "{}", script.stderr);
    let folder = Folder::new();
    let path = folder.write("star.bash", &script.stdout);
    let ask = "source \"$1\"; COMP_WORDS=(star p) COMP_CWORD=1; _star star p star; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let asked = Command::new("bash")
        .args(["-c", ask, "bash"])
        .arg(path)
        .output();
    let asked = within("bash", asked).await.expect("bash runs");
    let found = String::from_utf8(asked.stdout).expect("UTF-8");
    assert_eq!(found, "peers\nping\npipe\n", "{:?}", asked.stderr);
}

#[tokio::test]
async fn there_is_a_script_for_each_shell() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).await;
        assert_eq!(script.code, Some(0), "{shell}");
        assert!(script.stdout.contains("doctor"), "{shell}");
    }
}

#[tokio::test]
async fn a_closed_output_is_no_panic() {
    // One command with much output, and one with little.
    for arguments in [&["completions", "bash"][..], &["--help"]] {
        let mut command = command(arguments);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let child = command.stdout(writer).spawn().expect("it runs");
        let said = crate::star::ended(child).await;
        assert!(matches!(said.code, Some(0 | 1)), "{said:?}");
        assert_eq!(said.stderr, "", "{said:?}");
    }
}
