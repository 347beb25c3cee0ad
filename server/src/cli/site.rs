//! `callboard site`: where devices stand.

use callboard_proto::admin::{Page, Site};

use super::{
    Context,
    api::{PageArgs, Path},
    device,
    import::{self, ImportArgs},
    show, table,
};

/// What to do with sites.
#[derive(clap::Subcommand)]
pub(crate) enum SiteCommand {
    /// List sites
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Make or change sites
    ///
    /// CSV columns: id, name, tz, label.KEY. JSON: a list of objects with id, name, tz, labels. An import may be
    /// repeated.
    Import(ImportArgs),
}

/// Runs a command.
pub(crate) fn run(command: SiteCommand, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    match command {
        SiteCommand::List { page } => {
            let sites: Page<Site> = api.list(&Path::new(["sites"]), &page)?;
            show::page(context.format, "sites", &sites, list)
        }
        SiteCommand::Import(args) => show::value(context.format, &import::run::<Site>(&api, &args)?, device::imported),
    }
}

fn list(sites: &[Site]) -> String {
    let rows =
        sites.iter().map(|site| [site.id.to_string(), site.name.clone(), site.tz.clone(), table::pairs(&site.labels)]);
    table::list(["ID", "NAME", "TIME ZONE", "LABELS"], rows)
}
