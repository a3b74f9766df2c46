//! Two connections that are asked in turn who answers them, and what the answers tell.

use std::collections::HashSet;

use futures_util::future::try_join;
use sqlx::{Executor, PgConnection};

use crate::pool::between::Sessions;
use crate::pool::first_question::{Answerer, Asked, who};

/// Asks two connections in turn, each also while the other one keeps its session.
pub(crate) async fn compare(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<Sessions, sqlx::Error> {
    let (mut of_one, mut of_other) = try_join(in_both_ways(one), in_both_ways(other)).await?;
    if go_back(&of_one) || go_back(&of_other) {
        return Ok(Sessions::Split);
    }
    // Often enough that a pooler which takes any of two sessions is not taken for a server by luck.
    for kept in [Kept::None, Kept::ByOther, Kept::ByOne, Kept::None] {
        if let Some(connection) = kept.of(one, other) {
            connection.execute("begin").await?;
        }
        let turns: &[bool] = match kept {
            Kept::None => &[true, true, false, true, false],
            _ => &[true, false],
        };
        for (turn, is_one) in turns.iter().enumerate() {
            // With one session for both, the other's begin would keep it.
            if turn > 0 && are_shared(&of_one, &of_other) {
                break;
            }
            match is_one {
                true => of_one.push(who(one, Asked::Plainly).await?),
                false => of_other.push(who(other, Asked::Plainly).await?),
            }
        }
        if let Some(connection) = kept.of(one, other) {
            connection.execute("rollback").await?;
        }
        if go_back(&of_one) || go_back(&of_other) {
            return Ok(Sessions::Split);
        }
        if are_shared(&of_one, &of_other) {
            let servers = of_one.iter().chain(&of_other).map(|one| &one.server);
            return Ok(match servers.collect::<HashSet<_>>().len() {
                1 => Sessions::Shared,
                _ if answer_in_turn(one).await? => Sessions::Split,
                _ => Sessions::Unknown,
            });
        }
    }
    Ok(Sessions::Own)
}

/// Which connection has its session kept by a transaction.
#[derive(Clone, Copy)]
enum Kept {
    None,
    ByOther,
    ByOne,
}

impl Kept {
    fn of<'c>(
        self,
        one: &'c mut PgConnection,
        other: &'c mut PgConnection,
    ) -> Option<&'c mut PgConnection> {
        match self {
            Self::None => None,
            Self::ByOther => Some(other),
            Self::ByOne => Some(one),
        }
    }
}

fn are_shared(of_one: &[Answerer], of_other: &[Answerer]) -> bool {
    let varies = |answers: &[Answerer]| answers.iter().any(|answer| *answer != answers[0]);
    let both = |answer| of_other.contains(answer);
    varies(of_one) || varies(of_other) || of_one.iter().any(both)
}

/// Whether one server has answered, then another and then the first again, which a failover does not do.
fn go_back(answers: &[Answerer]) -> bool {
    let mut servers: Vec<_> = answers.iter().map(|answer| &answer.server).collect();
    servers.dedup();
    (1..servers.len()).any(|later| servers[..later].contains(&servers[later]))
}

/// After several servers have answered: whether they do so in turn, or a failover came between.
pub(crate) async fn answer_in_turn(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let mut answers = Vec::new();
    // A server that answers one of ten is missed by one in a hundred.
    for _ in 0..44 {
        answers.push(of_primary(connection).await?);
        answers.push(who(connection, Asked::Plainly).await?);
        if go_back(&answers) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Who answers a connection, asked as any standby may be and as only the primary may be.
async fn in_both_ways(connection: &mut PgConnection) -> Result<Vec<Answerer>, sqlx::Error> {
    Ok(vec![
        who(connection, Asked::Plainly).await?,
        of_primary(connection).await?,
        who(connection, Asked::Plainly).await?,
    ])
}

/// Asks so that none but the primary may answer: some look at the function, others at the transaction.
async fn of_primary(connection: &mut PgConnection) -> Result<Answerer, sqlx::Error> {
    connection.execute("begin").await?;
    let answer = who(connection, Asked::AsOfPrimary).await;
    connection.execute("rollback").await?;
    answer
}
