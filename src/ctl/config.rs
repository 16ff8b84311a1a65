//! `revokectl config`: what is in force, and who says so.

use comfy_table::Cell;

use super::client::{Client, Method};
use super::exit::Failure;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::intake::wire::ConfigView;

pub(super) async fn print(client: &Client, out: &mut Output) -> Result<(), Failure> {
    let view: ConfigView = client.call(Method::GET, Client::url(&["config"]), None).await?;
    out.value(&view, screen)
}

fn screen(view: &ConfigView, here: &Here) -> String {
    let mut table = here.table([Column::word("KEY"), Column::text("VALUE"), Column::word("ORIGIN")]);
    for setting in &view.settings {
        table.add_row([&setting.key, &setting.value, &setting.origin].map(|text| Cell::new(show::plain(text))));
    }
    let head = format!(
        "{}, configuration {}, in force since {}",
        show::plain(&view.file),
        view.config_hash,
        here.when(view.loaded_at)
    );
    format!("{}\n\n{}", here.wrap(&head, 0), show::text(&table))
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    #[test]
    fn each_value_stands_beside_its_origin_and_a_long_one_is_broken() {
        let view: ConfigView = serde_json::from_str(
            r#"{"file":"/etc/revoked/config.toml","configHash":"1a2b3c4d5e6f","loadedAt":"2026-11-22T11:00:00Z",
            "settings":[{"key":"server.socket","value":"\"/run/revoked/revoked.sock\"","origin":"$XDG_RUNTIME_DIR"},
            {"key":"platform.credentials","value":"\"/a/very/long/path/to/a/directory/of/secrets/service-account.json\"",
            "origin":"line 12"}]}"#,
        )
        .unwrap();
        let screen = anstream::adapter::strip_str(&screen(&view, &here())).to_string();
        assert!(screen.contains("1a2b3c4d5e6f") && screen.contains("$XDG_RUNTIME_DIR"), "{screen}");
        assert!(screen.lines().any(|line| line.starts_with("platform.credentials") && line.ends_with("line 12")));
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    }
}
