//! Taking and giving back an idle connection allocates nothing.

mod support;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

#[tokio::test]
async fn taking_an_idle_connection_allocates_nothing() {
    let pool = support::pool("connection_limit=1");
    for _ in 0..10 {
        drop(pool.acquire().await.expect("a lease"));
    }
    let _profiler = dhat::Profiler::builder().testing().build();
    let before = dhat::HeapStats::get().total_blocks;
    for _ in 0..1000 {
        drop(pool.acquire().await.expect("a lease"));
    }
    // The janitor wakes once a second and may be seen.
    let blocks = dhat::HeapStats::get().total_blocks - before;
    assert!(blocks < 20, "{blocks} allocations in 1,000 rounds");
}
