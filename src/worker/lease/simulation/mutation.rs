//! Ways to get it wrong.

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// An answer that comes after the lease's end begins it anew.
    LateAnswerCounts,
    /// The lease is counted from the answer instead of the question.
    CountedFromTheAnswer,
    /// It is relied on to its very end.
    NoMargin,
    /// Nobody looks at the clock before something is sent.
    NoFence,
    /// What a claim brings is started also when the lease has ended meanwhile.
    LateClaimStarts,
    /// The renewal ends when the drain begins.
    DrainWithoutRenewal,
    /// The database renews a lease that has ended.
    RenewalAfterExpiry,
    /// The database renews by the id alone.
    RenewalIgnoresIncarnation,
    /// A worker takes over an id whose holder lives.
    TakesALiveId,
    /// What earlier lives left is recovered without a look at who has the id by now.
    RecoveryIgnoresIncarnation,
    /// Rows of workers are recovered before their leases have ended.
    RecoveryOfTheLiving,
    /// Rows are given back by their ids alone.
    ReleaseWithoutToken,
    /// A lease is given up by the worker's id alone.
    LeaseReleaseIgnoresIncarnation,
    /// Checkpoints are written by the row's id alone.
    WriteWithoutToken,
    /// What is PENDING here, but doesn't run here, stays so.
    NothingStrands,
    /// What the dead left stays with them.
    NoRecovery,
}

impl Mutation {
    pub const ALL: [Mutation; 16] = [
        Mutation::LateAnswerCounts,
        Mutation::CountedFromTheAnswer,
        Mutation::NoMargin,
        Mutation::NoFence,
        Mutation::LateClaimStarts,
        Mutation::DrainWithoutRenewal,
        Mutation::RenewalAfterExpiry,
        Mutation::RenewalIgnoresIncarnation,
        Mutation::TakesALiveId,
        Mutation::RecoveryIgnoresIncarnation,
        Mutation::RecoveryOfTheLiving,
        Mutation::ReleaseWithoutToken,
        Mutation::LeaseReleaseIgnoresIncarnation,
        Mutation::WriteWithoutToken,
        Mutation::NothingStrands,
        Mutation::NoRecovery,
    ];
}
