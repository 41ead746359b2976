//! `meshctl token`.

use super::args::TokenArgs;
use mesh_control::{TokenAsk, mint_token};
use std::io::Write;

pub(crate) fn run(args: TokenArgs, json: bool) -> Result<(), String> {
    let ask = TokenAsk {
        namespace: args.namespace,
        service_account: args.service_account,
        services: args.services,
        ttl: args.ttl,
    };
    let token = mint_token(&args.data, &ask).map_err(|error| error.to_string())?;
    let line = if json { serde_json::json!({"token": token}).to_string() } else { token };
    writeln!(std::io::stdout(), "{line}").map_err(|error| format!("writing the token: {error}"))
}
