//! The lists that are measured: every combination of filters.

use local_postgres::Cluster;

use crate::output::Result;

/// A list of a service, by its filters.
pub(crate) struct List {
    pub(crate) name: String,
    pub(crate) service: &'static str,
    /// With a question mark at the end, or a parameter.
    pub(crate) path: String,
}

/// A customer who goes to ten resources, often; one of these; a day five years ago, its end, and that of its year.
const VALUES: &str = "
    select
        (select id from customer order by id offset 1 limit 1),
        'table-15',
        to_char(noon, format),
        to_char(noon + interval '1 day', format),
        to_char(noon + interval '365 days', format)
    from (
        select
            date_trunc('day', now() at time zone 'UTC') - interval '1825 days' + interval '12 hours' as noon,
            'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"' as format
    ) as time";

/// All of them, with values that the filled database has.
pub(crate) fn all(cluster: &Cluster, database: &str) -> Result<Vec<List>> {
    let values = cluster.sql(database, VALUES)?;
    let [customer, resource, from, day, year] = values.trim().split('|').collect::<Vec<_>>()[..]
    else {
        return Err(format!("the filled database has no values to filter by: {values}").into());
    };
    let owners = [
        ("", String::new()),
        ("customer", format!("&customer_id={customer}")),
        ("resource", format!("&resource={resource}")),
        (
            "customer, resource",
            format!("&customer_id={customer}&resource={resource}"),
        ),
    ];
    let windows = [
        ("", String::new()),
        ("a day", format!("&from={from}&to={day}")),
        ("a year", format!("&from={from}&to={year}")),
        ("from", format!("&from={from}")),
        ("to", format!("&to={from}")),
    ];
    let mut lists = Vec::new();
    for (owner, owner_query) in &owners {
        for (window, window_query) in &windows {
            let names = [*owner, *window]
                .into_iter()
                .filter(|name| !name.is_empty());
            let names = names.collect::<Vec<_>>().join(", ");
            lists.push(list(
                "reservation",
                &names,
                &format!("{owner_query}{window_query}"),
            ));
        }
    }
    lists.push(list("customer", "", ""));
    lists.push(list("customer", "email", "&email=customer-5@example.com"));
    Ok(lists)
}

fn list(service: &'static str, filters: &str, query: &str) -> List {
    let filters = if filters.is_empty() {
        "no filter"
    } else {
        filters
    };
    List {
        name: format!("{service}s: {filters}"),
        service,
        path: format!("/api/{service}s?{}", query.trim_start_matches('&')),
    }
}
