//! `callboard webhook`: whom the server tells what happened.

use callboard_proto::admin::{Delivery, DeliveryState, NewWebhook, Page, Webhook, WebhookCreated};
use serde_json::json;

use super::{
    Context,
    api::{PageArgs, Path},
    exit::BadInput,
    show, table,
};

/// What to do with webhooks.
#[derive(clap::Subcommand)]
pub(crate) enum WebhookCommand {
    /// Make a webhook; the secret that signs what it is sent is shown this once
    #[command(
        after_help = "Examples:\n  callboard webhook create pager --url https://pager.example.com/callboard --kind rollout.halted --kind trust.expiring"
    )]
    Create {
        /// A name for it
        name: String,
        /// Where to: https://host/path, or http:// within a network of yours
        #[arg(long, value_name = "URL")]
        url: String,
        /// Only this kind, as in rollout.halted; more than one if repeated
        #[arg(long = "kind", value_name = "KIND")]
        kinds: Vec<String>,
    },
    /// List webhooks, with how many deliveries wait and how many were given up
    List,
    /// Forget a webhook and what was to be sent to it
    Delete {
        /// Its name
        name: String,
    },
    /// Send a test now, once
    Test {
        /// Its name
        name: String,
    },
    /// List what was sent to a webhook, or is to be
    Deliveries {
        /// Its name
        name: String,
        /// Only those that stand so: waiting, delivered or dead
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<DeliveryState>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Send a delivery again that was given up
    Resend {
        /// Its id
        id: String,
    },
}

fn state(text: &str) -> Result<DeliveryState, String> {
    let found = DeliveryState::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| "waiting, delivered or dead".to_owned())
}

/// Runs a command.
pub(crate) fn run(command: WebhookCommand, context: &Context) -> anyhow::Result<()> {
    let format = context.format;
    match command {
        WebhookCommand::Create { name, url, kinds } => {
            let kinds = (!kinds.is_empty()).then_some(kinds);
            let new = NewWebhook { name, url, kinds, secret: None };
            let made: WebhookCreated = context.api()?.post(&Path::new(["webhooks"]), &new)?;
            show::value(format, &made, created)
        }
        WebhookCommand::List => {
            let found: Vec<Webhook> = context.api()?.get(&Path::new(["webhooks"]))?;
            show::value(format, &found, |found: &Vec<Webhook>| list(found))
        }
        WebhookCommand::Delete { name } => {
            context.api()?.delete(&Path::new(["webhooks", &name]))?;
            show::done(format, &format!("webhook {name} is deleted"))
        }
        WebhookCommand::Test { name } => {
            let sent: Delivery = context.api()?.post(&Path::new(["webhooks", &name, "test"]), &json!({}))?;
            show::value(format, &sent, |sent: &Delivery| deliveries(std::slice::from_ref(sent)))?;
            match sent.error {
                None => Ok(()),
                Some(error) => anyhow::bail!("the test of webhook {name} was not taken: {error}"),
            }
        }
        WebhookCommand::Deliveries { name, state, page } => {
            let path = Path::new(["webhooks", &name, "deliveries"]).maybe("state", state.map(DeliveryState::as_str));
            let found: Page<Delivery> = context.api()?.list(&path, &page)?;
            show::page(format, "deliveries", &found, deliveries)
        }
        WebhookCommand::Resend { id } => {
            if id.is_empty() {
                return Err(BadInput("the id of a delivery is empty".to_owned()).into());
            }
            let sent: Delivery = context.api()?.post(&Path::new(["deliveries", &id, "resend"]), &json!({}))?;
            show::value(format, &sent, |sent: &Delivery| deliveries(std::slice::from_ref(sent)))
        }
    }
}

fn created(made: &WebhookCreated) -> String {
    table::fields([
        ("name", made.webhook.name.clone()),
        ("url", made.webhook.url.clone()),
        ("kinds", made.webhook.kinds.join(", ")),
        ("secret, shown this once", made.secret.clone().unwrap_or_default()),
    ])
}

fn list(webhooks: &[Webhook]) -> String {
    let rows = webhooks.iter().map(|one| {
        [one.name.clone(), one.url.clone(), one.kinds.join(", "), one.waiting.to_string(), one.dead.to_string()]
    });
    table::list(["NAME", "URL", "KINDS", "WAITING", "DEAD"], rows)
}

fn deliveries(found: &[Delivery]) -> String {
    let rows = found.iter().map(|one| {
        let (state, error) = (one.state.as_str().to_owned(), one.error.clone().unwrap_or_default());
        [one.id.to_string(), one.kind.clone(), state, one.attempts.to_string(), one.next_at.to_string(), error]
    });
    table::list(["ID", "KIND", "STATE", "TRIED", "NEXT OR END", "ERROR"], rows)
}
