"""The stream: claim ▶ fetch ▶ recognise ▶ decode ▶ classify ▶ roll up ▶ merge, overlapped, each step bounded.

Theory of operation
    A message rings for one shard. While the stream works it claims further pending shards of the same model, so that
    the model never waits between shards. Threads do the steps:

        feeder ──▶ fetching ──bytes──▶ recogniser ──▶ decoding ──rows of batches──▶ classifier ──▶ merger
                    threads                 │          threads                                        ▲
                       └────────────────────┴─────────────┴──── photos that got no further ───────────┘

    The recogniser takes out photos whose bytes the model has said something of, in this stream or in the ledger.

    The classifier is the caller's own thread. Each step ends when the step before it has ended, so a stream that runs
    dry and one that is told to stop end the same way: who is told to stop passes over what is not decoded yet.

    Three things bound what is in memory, and are the back-pressure: the shards that are held (`feeder`), the photos
    between store and decoder and their bytes (`intake`), the ring of batch buffers between decoder and model (`slots`).

Laws
1. A photo that was handed out yields exactly one `PhotoResult`, unless the stream stops or its shard is lost.
2. A shard is finished by the merge that holds its last result; what is left at the end is handed back.
3. The first error that is no photo's fault ends the stream: `Stream.run` raises it once the leases are released. Where
   no service and no model is to blame either, it counts against the shards in hand, and at the fifth time in a row
   fails their jobs. After an error of the model its canaries tell whether it is to blame.

`stream` puts the steps together; `feeder`, `intake` (fetch and decode), `recognise`, `classify` and `merger` are the
steps; `flow`, `slots`, `twins` and `outages` are what stands between them.
"""
