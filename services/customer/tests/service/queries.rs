//! Queries that the list does not understand.

use server::testing::rejected;

use crate::rejection::start;

#[tokio::test]
async fn queries_a_list_does_not_understand() {
    let server = start().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=101", "limit"),
        ("limit=4294967296", "limit"),
        ("limit=9223372036854775807", "limit"),
        ("limit=-9223372036854775808", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("limit=1e1", "limit"),
        ("limit=0x10", "limit"),
        ("limit=%31%30%00", "limit"),
        ("limit=NaN", "limit"),
        ("limit=null", "limit"),
        ("limit=%D9%A1", "limit"),
        ("cursor=", "cursor"),
        ("cursor=1", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=null", "cursor"),
        ("cursor=../../x", "cursor"),
        ("cursor=%F0%9F%A6%80", "cursor"),
        ("cursor=zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "cursor"),
        ("cursor=0190000000007000800000000000000", "cursor"),
        ("cursor=019000000000700080000000000000011", "cursor"),
        ("cursor=01900000-0000-7000-8000-000000000001", "cursor"),
        ("cursor={01900000-0000-7000-8000-000000000001}", "cursor"),
        ("limit=1&limit=2", "limit"),
        ("cursor=a&cursor=b", "cursor"),
        ("email=a&email=b", "email"),
        ("page=2", "page"),
        ("offset=10", "offset"),
        ("Limit=10", "Limit"),
        ("limit[]=10", "limit[]"),
        ("=1", ""),
        ("%00=1", "\0"),
    ] {
        let answer = server.get(&format!("/api/customers?{query}")).await;
        rejected(&answer, query, 422);
        let problem = answer.json();
        let named = problem["errors"][0]["field"].as_str().unwrap();
        assert!(
            named == field || problem.to_string().contains(&format!("`{field}`")),
            "{query}: {problem}"
        );
    }
    for query in ["email=%00", "email=a%00b%40example.com"] {
        rejected(
            &server.get(&format!("/api/customers?{query}")).await,
            query,
            422,
        );
    }
}
