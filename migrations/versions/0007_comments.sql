-- What everything in schemas core and tags is: unit, range, grain, additive or not, and what NULL says. Literal text.


-- ---- schema core (pipeline.store.tables.dictionary says the same)

COMMENT ON VIEW core.active_effect IS 'What the active policy changes, by taxonomy and node; empty without one.';

COMMENT ON COLUMN core.app_user."user_id" IS 'The user.';
COMMENT ON COLUMN core.app_user."name" IS 'What the operator''s rule makes of a key; compared bytewise.';
COMMENT ON COLUMN core.app_user."created_at" IS 'When this name was first seen.';
COMMENT ON COLUMN core.app_user."deleted_at" IS 'Since when the user is hidden and being erased, or erased. NULL: neither.';
COMMENT ON COLUMN core.app_user."consent" IS 'Whether others may see this user''s photos. NULL: never asked, which counts as no.';

COMMENT ON COLUMN core.breaker."queue" IS 'Queue of the model that does not work.';
COMMENT ON COLUMN core.breaker."host" IS 'Machine on which it does not.';
COMMENT ON COLUMN core.breaker."failures" IS 'Attempts in a row that failed; 1 or more.';
COMMENT ON COLUMN core.breaker."opened_at" IS 'When the first of them failed.';
COMMENT ON COLUMN core.breaker."next_attempt_at" IS 'Before this, nobody there serves the queue.';
COMMENT ON COLUMN core.breaker."reason" IS 'The last error, in one sentence.';

COMMENT ON COLUMN core.bucket."bucket_id" IS 'The place.';
COMMENT ON COLUMN core.bucket."uri" IS '"s3://name", or "file://" for local files.';

COMMENT ON COLUMN core.category."node" IS 'The category, in every taxonomy; 1 to 32767, never reused.';
COMMENT ON COLUMN core.category."wnid" IS 'Synset id of WordNet 3.0, such as n02084071.';
COMMENT ON COLUMN core.category."area_only" IS 'Whether this stands for the category''s area in the display tree alone: never a tag.';
COMMENT ON COLUMN core.category."name" IS 'The name that people see; several categories may have the same.';
COMMENT ON COLUMN core.category."lemmas" IS 'All words of the synset, with underscores for spaces.';
COMMENT ON COLUMN core.category."gloss" IS 'What it means, as WordNet says.';

COMMENT ON COLUMN core.category_closure."taxonomy_id" IS 'In which taxonomy.';
COMMENT ON COLUMN core.category_closure."ancestor" IS 'The upper node.';
COMMENT ON COLUMN core.category_closure."descendant" IS 'The lower node.';
COMMENT ON COLUMN core.category_closure."distance" IS 'Fewest edges between the two; 0: the same node.';

COMMENT ON COLUMN core.category_total."model_id" IS 'By which model.';
COMMENT ON COLUMN core.category_total."node" IS 'The category, or area.';
COMMENT ON COLUMN core.category_total."slot" IS 'Photo id / 512 modulo 64: 0 to 63. Add up all slots.';
COMMENT ON COLUMN core.category_total."photos" IS 'Photos that carry the tag. Not additive over categories.';
COMMENT ON COLUMN core.category_total."mass" IS 'Ten-thousandths of a photo. Additive over categories that share no label.';

COMMENT ON COLUMN core.decision."model_id" IS 'Of which model.';
COMMENT ON COLUMN core.decision."revision" IS '1, 2, ...; the highest is in use.';
COMMENT ON COLUMN core.decision."rule" IS 'Name of the rule that chooses the headline.';
COMMENT ON COLUMN core.decision."threshold" IS 'Least mass of a tag, 0 to 10000.';
COMMENT ON COLUMN core.decision."created_at" IS 'When it was stored.';
COMMENT ON COLUMN core.decision."lam" IS 'What a category is worth for being right alone, in ten-thousandths.';
COMMENT ON COLUMN core.decision."vague_share" IS 'Categories with this share of the labels or more are never shown; 0 to 1.';
COMMENT ON COLUMN core.decision."ambiguous_mass" IS 'Mass from which a second category makes a photo ambiguous, 0 to 10000.';
COMMENT ON COLUMN core.decision."keep_mass" IS 'Least mass that is stored, 0 to 10000.';
COMMENT ON COLUMN core.decision."calibration" IS 'Photos, target and bounds of the calibration it came from. NULL: it shipped with the model.';

COMMENT ON COLUMN core.delivery."delivery_id" IS 'The delivery.';
COMMENT ON COLUMN core.delivery."event_id" IS 'What the receiver knows it by; the same at every attempt.';
COMMENT ON COLUMN core.delivery."job_id" IS 'The job whose end it waits for.';
COMMENT ON COLUMN core.delivery."kind" IS 'results or webhook.';
COMMENT ON COLUMN core.delivery."target" IS 'Where to: an address or a file.';
COMMENT ON COLUMN core.delivery."format" IS 'Of results. NULL: a webhook.';
COMMENT ON COLUMN core.delivery."state" IS 'As of a shard: 0 waits, 1 and 2 in hand, 3 delivered, 5 given up.';
COMMENT ON COLUMN core.delivery."attempts" IS 'How often it was tried.';
COMMENT ON COLUMN core.delivery."lease_epoch" IS 'Rises with every claim; who comes with an older one is too late.';
COMMENT ON COLUMN core.delivery."lease_owner" IS 'Who has it in hand. NULL: nobody.';
COMMENT ON COLUMN core.delivery."lease_until" IS 'Until when. NULL: nobody has it.';
COMMENT ON COLUMN core.delivery."published_at" IS 'When somebody was rung for it. NULL: not since it last waited.';
COMMENT ON COLUMN core.delivery."next_attempt_at" IS 'Not before this. NULL: at once.';
COMMENT ON COLUMN core.delivery."created_at" IS 'When it was ordered.';
COMMENT ON COLUMN core.delivery."delivered_at" IS 'When it had arrived. NULL: it has not.';
COMMENT ON COLUMN core.delivery."error" IS 'Why the last attempt failed, or why it was given up. NULL: neither.';
COMMENT ON COLUMN core.delivery."facts" IS 'Lines and checksum of what was written. NULL: nothing was yet.';

COMMENT ON COLUMN core.erasure."user_id" IS 'Who is erased.';
COMMENT ON COLUMN core.erasure."requested_at" IS 'When it was asked for.';
COMMENT ON COLUMN core.erasure."finished_at" IS 'When nothing was left. NULL: it goes on.';
COMMENT ON COLUMN core.erasure."photos" IS 'Rows deleted so far.';
COMMENT ON COLUMN core.erasure."results" IS 'Rows deleted so far, of all models.';
COMMENT ON COLUMN core.erasure."thumbnails" IS 'Rows deleted so far.';
COMMENT ON COLUMN core.erasure."items" IS 'Rows deleted so far, of all jobs.';
COMMENT ON COLUMN core.erasure."lines" IS 'Lines of jobs'' input whose address was taken out so far.';
COMMENT ON COLUMN core.erasure."outputs" IS 'Delivered results that are written again without them, so far.';

COMMENT ON COLUMN core.firing."schedule_id" IS 'Of which schedule.';
COMMENT ON COLUMN core.firing."due_at" IS 'When it was due.';
COMMENT ON COLUMN core.firing."fired_at" IS 'When it was fired; the database''s clock.';
COMMENT ON COLUMN core.firing."job_id" IS 'The job that came of it. NULL: none; note says why.';
COMMENT ON COLUMN core.firing."missed" IS 'Earlier times that this one stands for.';
COMMENT ON COLUMN core.firing."note" IS 'Why there is no job. NULL: there is one.';

COMMENT ON COLUMN core.job."job_id" IS 'The job.';
COMMENT ON COLUMN core.job."kind" IS 's3, folder, manifest, csv, inventory, events: kinds of sources; ledger, decide: photos of the ledger.';
COMMENT ON COLUMN core.job."source" IS 'Where its photos come from, as it was asked for.';
COMMENT ON COLUMN core.job."user_rule" IS 'How a key says whose it is.';
COMMENT ON COLUMN core.job."fixed_user" IS 'Whose all photos are. NULL: the rule says.';
COMMENT ON COLUMN core.job."model_id" IS 'The model it is pinned to.';
COMMENT ON COLUMN core.job."scope" IS 'Which photos: missing, failed, stale or all.';
COMMENT ON COLUMN core.job."priority" IS 'Higher goes first.';
COMMENT ON COLUMN core.job."keep_missing" IS 'Whether photos gone from the source keep their results.';
COMMENT ON COLUMN core.job."allow_mass_delete" IS 'Whether more than 20 % of the source may be found gone.';
COMMENT ON COLUMN core.job."state" IS '0 created, 1 running, 2 paused, 3 cancelling, 10 succeeded, 11 with errors, 12 failed, 13 cancelled.';
COMMENT ON COLUMN core.job."error" IS 'Why it failed or was stopped, in one sentence. NULL: neither.';
COMMENT ON COLUMN core.job."notes" IS 'What an operator should know of it.';
COMMENT ON COLUMN core.job."refusals" IS 'The first few lines or keys that were no photos.';
COMMENT ON COLUMN core.job."subtracted" IS 'Photos found gone from the source and subtracted.';
COMMENT ON COLUMN core.job."created_at" IS 'When it was asked for.';
COMMENT ON COLUMN core.job."started_at" IS 'When its listing began. NULL: not yet.';
COMMENT ON COLUMN core.job."finished_at" IS 'When it ended. NULL: not yet.';
COMMENT ON COLUMN core.job."paused_by" IS 'Who paused it. NULL: it is not paused.';
COMMENT ON COLUMN core.job."paused_at" IS 'Since when. NULL: it is not paused.';
COMMENT ON COLUMN core.job."pause_reason" IS 'Why. NULL: nobody said, or it is not paused.';
COMMENT ON COLUMN core.job."pause_until" IS 'When it goes on by itself. NULL: it does not, or it is not paused.';
COMMENT ON COLUMN core.job."cancelled_by" IS 'Who cancelled it. NULL: nobody.';
COMMENT ON COLUMN core.job."rested_seconds" IS 'How long it was paused since it began, in pauses that are over.';
COMMENT ON COLUMN core.job."rules" IS 'Which photos of the source are chosen; {}: all.';
COMMENT ON COLUMN core.job."most_failed_share" IS 'Share of failed photos above which it is stopped; 0 to 1. NULL: it is not.';
COMMENT ON COLUMN core.job."window" IS 'Hours in which it may run. NULL: always.';
COMMENT ON COLUMN core.job."keeps_lines" IS 'Whether job_line tells what became of each line.';
COMMENT ON COLUMN core.job."decision_revision" IS 'With which revision a job decides anew. NULL: the newest, or it looks at pixels.';
COMMENT ON COLUMN core.job."retry_of" IS 'The job whose failed photos these are. NULL: none.';
COMMENT ON COLUMN core.job."schedule_id" IS 'The schedule that started it. NULL: a person did.';
COMMENT ON COLUMN core.job."idempotency_key" IS 'The caller''s own key: the same one gives this job again. NULL: none was given.';
COMMENT ON COLUMN core.job."request_sha256" IS 'Hash of what was asked for with that key. NULL: there is none.';
COMMENT ON COLUMN core.job."tidying_at" IS 'Since when its items, lines and entries are being deleted, or are gone. NULL: they are there.';
COMMENT ON COLUMN core.job."tidied_at" IS 'When none of those was left. NULL: some are.';

COMMENT ON COLUMN core.job_count."job_id" IS 'Of which job.';
COMMENT ON COLUMN core.job_count."state" IS 'State of the photos counted.';
COMMENT ON COLUMN core.job_count."code" IS 'Their code.';
COMMENT ON COLUMN core.job_count."photos" IS 'How many. Additive over states and codes; a photo counts in each job that had it.';

COMMENT ON COLUMN core.job_entry."job_id" IS 'Of which job.';
COMMENT ON COLUMN core.job_entry."line" IS 'Its place in the input, from 1.';
COMMENT ON COLUMN core.job_entry."bucket" IS 'Where the object lies.';
COMMENT ON COLUMN core.job_entry."key" IS 'Its key.';
COMMENT ON COLUMN core.job_entry."version_id" IS 'Which version of it. NULL: the newest.';
COMMENT ON COLUMN core.job_entry."deleted" IS 'Whether the event says that it is gone.';

COMMENT ON COLUMN core.job_item."job_id" IS 'Of which job.';
COMMENT ON COLUMN core.job_item."photo_id" IS 'Which photo.';
COMMENT ON COLUMN core.job_item."shard_id" IS 'The shard it is or was in. NULL: it waits to be put into one.';
COMMENT ON COLUMN core.job_item."state" IS '0 pending, 1 retry, 2 succeeded, 3 failed, 4 skipped_unchanged, 5 duplicate, 6 excluded, 7 cancelled, 8 erased.';
COMMENT ON COLUMN core.job_item."code" IS 'Why.';
COMMENT ON COLUMN core.job_item."attempts" IS 'How often it was tried.';
COMMENT ON COLUMN core.job_item."first_retry_at" IS 'Since when infrastructure has been in its way. NULL: it is not.';
COMMENT ON COLUMN core.job_item."next_attempt_at" IS 'When it is tried again. NULL: it waits for nothing.';
COMMENT ON COLUMN core.job_item."message" IS 'What went wrong, in one sentence. NULL: nothing.';

COMMENT ON COLUMN core.job_line."job_id" IS 'Of which job.';
COMMENT ON COLUMN core.job_line."line" IS 'Its number, from 1.';
COMMENT ON COLUMN core.job_line."uri" IS 'What it names. NULL: nothing, or its user was erased.';
COMMENT ON COLUMN core.job_line."version_id" IS 'Which version of it. NULL: the newest.';
COMMENT ON COLUMN core.job_line."photo_id" IS 'The photo. NULL: it became none.';
COMMENT ON COLUMN core.job_line."state" IS 'What became of it, where no photo tells. NULL: job_item tells.';
COMMENT ON COLUMN core.job_line."code" IS 'Why. NULL: job_item tells.';
COMMENT ON COLUMN core.job_line."message" IS 'What is wrong with it, in one sentence. NULL: nothing, or job_item tells.';

COMMENT ON COLUMN core.job_missing."job_id" IS 'Whose listing did not meet it.';
COMMENT ON COLUMN core.job_missing."photo_id" IS 'The photo.';

COMMENT ON COLUMN core.list_range."range_id" IS 'The listing.';
COMMENT ON COLUMN core.list_range."job_id" IS 'Of which job.';
COMMENT ON COLUMN core.list_range."cursor" IS 'Where the next page starts. NULL: at the beginning.';
COMMENT ON COLUMN core.list_range."listed" IS 'Entries met so far.';
COMMENT ON COLUMN core.list_range."state" IS '0 pending, 1 queued, 2 leased, 3 done, 5 cancelled.';
COMMENT ON COLUMN core.list_range."deaths" IS 'Workers that died over it at the same page.';
COMMENT ON COLUMN core.list_range."lease_epoch" IS 'Rises with every claim; who comes with an older one is too late.';
COMMENT ON COLUMN core.list_range."lease_owner" IS 'The worker that has it. NULL: none.';
COMMENT ON COLUMN core.list_range."lease_until" IS 'Until when. NULL: nobody has it.';
COMMENT ON COLUMN core.list_range."published_at" IS 'When a worker was rung for it. NULL: not since it last waited.';
COMMENT ON COLUMN core.list_range."next_attempt_at" IS 'Not before this. NULL: at once.';

COMMENT ON COLUMN core.model."model_id" IS 'The model.';
COMMENT ON COLUMN core.model."name" IS 'Its name; several models may have had it, one after the other.';
COMMENT ON COLUMN core.model."fingerprint" IS 'Hash of all that it is.';
COMMENT ON COLUMN core.model."taxonomy_id" IS 'The taxonomy of its labels.';
COMMENT ON COLUMN core.model."active" IS 'Not read any more; see core.active_model.';
COMMENT ON COLUMN core.model."created_at" IS 'When it was registered.';
COMMENT ON COLUMN core.model."dropped_at" IS 'When its results were given up. NULL: they were not.';

COMMENT ON COLUMN core.object_event."bucket" IS 'Where the object lies.';
COMMENT ON COLUMN core.object_event."key" IS 'Its key.';
COMMENT ON COLUMN core.object_event."sequencer" IS 'Which of its events is newer: the one that is greater, bytewise.';
COMMENT ON COLUMN core.object_event."deleted" IS 'Whether it is gone.';
COMMENT ON COLUMN core.object_event."seen_at" IS 'When the event was taken in.';

COMMENT ON COLUMN core.photo."photo_id" IS 'The photo; never reused.';
COMMENT ON COLUMN core.photo."bucket_id" IS 'Where it lies.';
COMMENT ON COLUMN core.photo."key" IS 'Its key there, or its absolute path.';
COMMENT ON COLUMN core.photo."user_id" IS 'Whose it is.';
COMMENT ON COLUMN core.photo."etag" IS 'Version of its bytes, as the place gives it; says nothing else.';
COMMENT ON COLUMN core.photo."version_id" IS 'The version that was asked for. NULL: the newest.';
COMMENT ON COLUMN core.photo."size" IS 'Bytes.';
COMMENT ON COLUMN core.photo."content_rev" IS '1, and one more with every change of its bytes.';
COMMENT ON COLUMN core.photo."taken_at" IS 'When it was taken, as well as is known.';
COMMENT ON COLUMN core.photo."taken_from" IS 'Who says so: 0 the object''s time, 1 EXIF, 2 the manifest.';
COMMENT ON COLUMN core.photo."created_at" IS 'When it was first listed.';
COMMENT ON COLUMN core.photo."gone_at" IS 'When it was found gone from its place. NULL: it is there.';

COMMENT ON COLUMN core.photo_result."model_id" IS 'By which model; the partition.';
COMMENT ON COLUMN core.photo_result."photo_id" IS 'Of which photo.';
COMMENT ON COLUMN core.photo_result."user_id" IS 'Whose photo; as in core.photo.';
COMMENT ON COLUMN core.photo_result."content_rev" IS 'Of which content.';
COMMENT ON COLUMN core.photo_result."decision_rev" IS 'With which revision of the model''s decision.';
COMMENT ON COLUMN core.photo_result."outcome" IS '1 tagged, 2 abstained, 10 and up: why it failed.';
COMMENT ON COLUMN core.photo_result."headline" IS 'Node of the one decided tag. NULL: abstained or failed.';
COMMENT ON COLUMN core.photo_result."nodes" IS 'Every node with at least 2 % of the photo, areas included, root first. Empty: it failed.';
COMMENT ON COLUMN core.photo_result."masses" IS 'Their masses, in the order of nodes; 200 to 10000.';
COMMENT ON COLUMN core.photo_result."tags" IS 'The shown nodes; some of nodes.';
COMMENT ON COLUMN core.photo_result."sha256" IS 'Hash of the bytes. NULL: they could not be read.';

COMMENT ON COLUMN core.policy."version" IS '1, 2, ...';
COMMENT ON COLUMN core.policy."active" IS 'Whether it is the one that holds.';
COMMENT ON COLUMN core.policy."created_at" IS 'When it was written.';
COMMENT ON COLUMN core.policy."applied_at" IS 'When it was last applied. NULL: never.';

COMMENT ON COLUMN core.policy_effect."version" IS 'Of which policy.';
COMMENT ON COLUMN core.policy_effect."taxonomy_id" IS 'In which taxonomy.';
COMMENT ON COLUMN core.policy_effect."node" IS 'What is changed.';
COMMENT ON COLUMN core.policy_effect."hidden" IS 'Whether it is not shown at all.';
COMMENT ON COLUMN core.policy_effect."shown_as" IS 'What a hidden node is shown as. NULL: it is not hidden, or an area.';
COMMENT ON COLUMN core.policy_effect."minus" IS 'Nodes that are subtracted from a shown one.';
COMMENT ON COLUMN core.policy_effect."times" IS 'How often each; below 0: added.';
COMMENT ON COLUMN core.policy_effect."owed_to" IS 'Tags by which a photo would carry this one, and no longer does.';

COMMENT ON COLUMN core.policy_rule."version" IS 'Of which policy.';
COMMENT ON COLUMN core.policy_rule."position" IS 'Its place in the list.';
COMMENT ON COLUMN core.policy_rule."wnid" IS 'The subtree''s root.';
COMMENT ON COLUMN core.policy_rule."target" IS 'What it is shown as. NULL: the nearest category that may be shown.';
COMMENT ON COLUMN core.policy_rule."taken_along" IS 'Whether it was not asked for, and follows from counts.';

COMMENT ON COLUMN core.promotion."promotion_id" IS 'Which came later has the greater number.';
COMMENT ON COLUMN core.promotion."model_id" IS 'Whose results people see from then on.';
COMMENT ON COLUMN core.promotion."promoted_at" IS 'From when.';
COMMENT ON COLUMN core.promotion."promoted_by" IS 'Who did it.';
COMMENT ON COLUMN core.promotion."rolled_back" IS 'Whether it was a return to an earlier one.';
COMMENT ON COLUMN core.promotion."reason" IS 'Why. NULL: nobody said.';

COMMENT ON COLUMN core.queue_limit."queue" IS 'The queue; "*": all of them together.';
COMMENT ON COLUMN core.queue_limit."most" IS 'Shards in hand at once, at most; 0: none.';
COMMENT ON COLUMN core.queue_limit."set_by" IS 'Who set it.';
COMMENT ON COLUMN core.queue_limit."set_at" IS 'When.';

COMMENT ON COLUMN core.schedule."schedule_id" IS 'The schedule.';
COMMENT ON COLUMN core.schedule."name" IS 'What people call it; once among those not removed.';
COMMENT ON COLUMN core.schedule."cron" IS 'When it is due, in five fields.';
COMMENT ON COLUMN core.schedule."timezone" IS 'In whose hours; an IANA name.';
COMMENT ON COLUMN core.schedule."window" IS 'Hours in which its jobs may run. NULL: always.';
COMMENT ON COLUMN core.schedule."request" IS 'What `pictograph tag` would ask for.';
COMMENT ON COLUMN core.schedule."next_at" IS 'When it is next due. NULL: never.';
COMMENT ON COLUMN core.schedule."created_by" IS 'Who made it.';
COMMENT ON COLUMN core.schedule."created_at" IS 'When.';
COMMENT ON COLUMN core.schedule."removed_at" IS 'When it was removed. NULL: it was not.';

COMMENT ON COLUMN core.shard."shard_id" IS 'The shard.';
COMMENT ON COLUMN core.shard."job_id" IS 'Of which job.';
COMMENT ON COLUMN core.shard."model_id" IS 'The job''s model.';
COMMENT ON COLUMN core.shard."priority" IS 'The job''s priority.';
COMMENT ON COLUMN core.shard."photos" IS 'Open photos when it was made, or at its last death; 1 to 512.';
COMMENT ON COLUMN core.shard."state" IS '0 pending, 1 queued, 2 leased, 3 done, 4 split, 5 cancelled.';
COMMENT ON COLUMN core.shard."deaths" IS 'Workers that died over it.';
COMMENT ON COLUMN core.shard."lease_epoch" IS 'Rises with every claim; who comes with an older one is too late.';
COMMENT ON COLUMN core.shard."lease_owner" IS 'The worker that has it. NULL: none.';
COMMENT ON COLUMN core.shard."lease_until" IS 'Until when. NULL: nobody has it.';
COMMENT ON COLUMN core.shard."lease_started" IS 'Whether the worker has its photos in hand.';
COMMENT ON COLUMN core.shard."failures" IS 'In a row, that no photo explains.';
COMMENT ON COLUMN core.shard."error" IS 'The last of them. NULL: none.';
COMMENT ON COLUMN core.shard."published_at" IS 'When a worker was rung for it. NULL: not since it last waited.';
COMMENT ON COLUMN core.shard."next_attempt_at" IS 'Not before this. NULL: at once.';
COMMENT ON COLUMN core.shard."dead_workers" IS 'Whom the deaths were.';
COMMENT ON COLUMN core.shard."suspicions" IS 'Machines that lost a device over it.';
COMMENT ON COLUMN core.shard."alone" IS 'Whether it is worked on beside nothing else.';

COMMENT ON COLUMN core.taxonomy."taxonomy_id" IS 'The taxonomy.';
COMMENT ON COLUMN core.taxonomy."name" IS 'Its name.';
COMMENT ON COLUMN core.taxonomy."sha256" IS 'Hash of the built graph.';
COMMENT ON COLUMN core.taxonomy."labels" IS 'Labels of the models that use it.';
COMMENT ON COLUMN core.taxonomy."created_at" IS 'When it was registered.';

COMMENT ON COLUMN core.taxonomy_category."taxonomy_id" IS 'In which taxonomy.';
COMMENT ON COLUMN core.taxonomy_category."node" IS 'Which category, or area.';
COMMENT ON COLUMN core.taxonomy_category."position" IS 'Its column in the taxonomy''s matrices; 0: the root.';
COMMENT ON COLUMN core.taxonomy_category."leaf_count" IS 'Labels at or under it; 1 or more.';
COMMENT ON COLUMN core.taxonomy_category."bits" IS 'log2(all labels / leaf_count): 0 at the root.';
COMMENT ON COLUMN core.taxonomy_category."depth" IS 'Edges up to the root, along the display tree.';
COMMENT ON COLUMN core.taxonomy_category."display_parent" IS 'Where it is drawn. NULL: the root.';
COMMENT ON COLUMN core.taxonomy_category."shown_as" IS 'The one of all with the same labels that is shown; itself, mostly.';

COMMENT ON COLUMN core.thumbnail."photo_id" IS 'Of which photo.';
COMMENT ON COLUMN core.thumbnail."side" IS 'Pixels of the longer side.';
COMMENT ON COLUMN core.thumbnail."content_rev" IS 'Of which content.';
COMMENT ON COLUMN core.thumbnail."jpeg" IS 'The picture, without metadata.';
COMMENT ON COLUMN core.thumbnail."used_at" IS 'When it was last asked for.';

COMMENT ON COLUMN core.user_category."model_id" IS 'By which model.';
COMMENT ON COLUMN core.user_category."user_id" IS 'Of which user.';
COMMENT ON COLUMN core.user_category."node" IS 'The category, or area.';
COMMENT ON COLUMN core.user_category."photos" IS 'Photos that carry the tag. Not additive over categories.';
COMMENT ON COLUMN core.user_category."mass" IS 'Ten-thousandths of a photo. Additive over categories that share no label.';

COMMENT ON COLUMN core.worker."worker_id" IS 'The process: machine, number, and when it began.';
COMMENT ON COLUMN core.worker."queue" IS 'What it serves.';
COMMENT ON COLUMN core.worker."started_at" IS 'When it began.';
COMMENT ON COLUMN core.worker."last_seen" IS 'When its heart last beat.';
COMMENT ON COLUMN core.worker."last_progress" IS 'When it last got something done. NULL: not yet.';
COMMENT ON COLUMN core.worker."host" IS 'Its machine. Empty: not known.';
COMMENT ON COLUMN core.worker."process_id" IS 'Of the process that a supervisor started on that machine; 0: not known.';
COMMENT ON COLUMN core.worker."last_rung" IS 'When a message last reached it. NULL: none has.';
COMMENT ON COLUMN core.worker."trouble" IS 'What it waits for. NULL: nothing.';
COMMENT ON COLUMN core.worker."trouble_since" IS 'Since when. NULL: it waits for nothing.';

COMMENT ON COLUMN core.active_effect."version" IS 'Of which policy.';
COMMENT ON COLUMN core.active_effect."taxonomy_id" IS 'In which taxonomy.';
COMMENT ON COLUMN core.active_effect."node" IS 'What is changed.';
COMMENT ON COLUMN core.active_effect."hidden" IS 'Whether it is not shown at all.';
COMMENT ON COLUMN core.active_effect."shown_as" IS 'What a hidden node is shown as. NULL: it is not hidden, or an area.';
COMMENT ON COLUMN core.active_effect."minus" IS 'Nodes that are subtracted from a shown one.';
COMMENT ON COLUMN core.active_effect."times" IS 'How often each; below 0: added.';
COMMENT ON COLUMN core.active_effect."owed_to" IS 'Tags by which a photo would carry this one, and no longer does.';
COMMENT ON COLUMN core.active_model."model_id" IS 'The model.';
COMMENT ON COLUMN core.active_model."name" IS 'Its name.';
COMMENT ON COLUMN core.active_model."fingerprint" IS 'Hash of all that it is.';
COMMENT ON COLUMN core.active_model."taxonomy_id" IS 'The taxonomy of its labels.';
COMMENT ON COLUMN core.active_model."promoted_at" IS 'Since when it is active.';
COMMENT ON VIEW core.category_level IS 'Steps of the display tree that may be tags, by model and category.';
COMMENT ON COLUMN core.category_level."key" IS 'model_id * 65536 + node.';
COMMENT ON COLUMN core.category_level."l1" IS 'As in tags.category.';
COMMENT ON COLUMN core.category_level."l2" IS 'As in tags.category.';
COMMENT ON COLUMN core.category_level."l3" IS 'As in tags.category.';
COMMENT ON COLUMN core.category_level."l4" IS 'As in tags.category.';

-- ---- schema tags

COMMENT ON VIEW tags.reason IS 'Why a photo stands where it stands: what `reason` says in other views. Grain: one row per reason.';
COMMENT ON COLUMN tags.reason."code" IS 'The number in schema core.';
COMMENT ON COLUMN tags.reason."state" IS 'The state of a job''s photo that it belongs to. NULL: any.';
COMMENT ON COLUMN tags.reason."reason" IS 'The word that views show.';
COMMENT ON COLUMN tags.reason."meaning" IS 'What it means.';

COMMENT ON VIEW tags.model IS 'Models that were ever registered. Grain: one row per model.';
COMMENT ON COLUMN tags.model."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.model."model_id" IS 'The model.';
COMMENT ON COLUMN tags.model."fingerprint" IS 'Hash of all that the model is, in hexadecimal: weights, preprocessing, labels, taxonomy, temperature.';
COMMENT ON COLUMN tags.model."taxonomy" IS 'Name of the taxonomy of its labels.';
COMMENT ON COLUMN tags.model."labels" IS 'How many labels it has.';
COMMENT ON COLUMN tags.model."registered_at" IS 'When it was registered.';
COMMENT ON COLUMN tags.model."active" IS 'Whether its results are those of the views without _all_models; true of one model at most.';
COMMENT ON COLUMN tags.model."promoted_at" IS 'When it last became active. NULL: never.';
COMMENT ON COLUMN tags.model."promoted_by" IS 'Who made it so. NULL: never was.';
COMMENT ON COLUMN tags.model."decision_revision" IS 'Newest revision of its decision. NULL: none.';
COMMENT ON COLUMN tags.model."threshold" IS 'Least probability of a tag, 0 to 1. NULL: no decision.';
COMMENT ON COLUMN tags.model."dropped_at" IS 'When its results were given up. NULL: they were not.';
COMMENT ON COLUMN tags.model."photos" IS 'Distinct photos that it has seen. NOT additive over models.';

COMMENT ON VIEW tags.category IS 'Categories of the active model''s taxonomy that may be shown. Grain: one row per category. Join on node or wnid.';
COMMENT ON COLUMN tags.category."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.category."model_id" IS 'The model.';
COMMENT ON COLUMN tags.category."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.category."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.category."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.category."aliases" IS 'Other words for it. Empty: none.';
COMMENT ON COLUMN tags.category."gloss" IS 'What it means, as WordNet says.';
COMMENT ON COLUMN tags.category."depth" IS 'Edges up to the root along the display tree; 0: the root.';
COMMENT ON COLUMN tags.category."bits" IS 'How telling it is: log2(all labels / labels), 0 at the root, about 10 for a single label of 1,000.';
COMMENT ON COLUMN tags.category."labels" IS 'Labels of the model at or under it, 1 or more. NOT additive: labels under several parents count in each.';
COMMENT ON COLUMN tags.category."parent_wnid" IS 'Where the display tree draws it; one parent of possibly several. NULL: the root.';
COMMENT ON COLUMN tags.category."shown_as_wnid" IS 'Of the categories with the same labels, the one that is shown as a tag; its own wnid, mostly.';
COMMENT ON COLUMN tags.category."l1" IS 'Name of the broadest telling category (one that may be a tag) around it in the display tree, or its own: animal, food. NULL: it is broader than any.';
COMMENT ON COLUMN tags.category."l2" IS 'The next telling category below l1, toward this one, or its own name. NULL: it lies higher.';
COMMENT ON COLUMN tags.category."l3" IS 'The next telling category below l2. NULL: it lies higher.';
COMMENT ON COLUMN tags.category."l4" IS 'The next telling category below l3. NULL: it lies higher.';

COMMENT ON VIEW tags.category_all_models IS 'Categories of every model''s taxonomy. Grain: one row per model and category.';
COMMENT ON COLUMN tags.category_all_models."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.category_all_models."model_id" IS 'The model.';
COMMENT ON COLUMN tags.category_all_models."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.category_all_models."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.category_all_models."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.category_all_models."aliases" IS 'Other words for it. Empty: none.';
COMMENT ON COLUMN tags.category_all_models."gloss" IS 'What it means, as WordNet says.';
COMMENT ON COLUMN tags.category_all_models."depth" IS 'Edges up to the root along the display tree; 0: the root.';
COMMENT ON COLUMN tags.category_all_models."bits" IS 'How telling it is: log2(all labels / labels), 0 at the root, about 10 for a single label of 1,000.';
COMMENT ON COLUMN tags.category_all_models."labels" IS 'Labels of the model at or under it, 1 or more. NOT additive: labels under several parents count in each.';
COMMENT ON COLUMN tags.category_all_models."parent_wnid" IS 'Where the display tree draws it; one parent of possibly several. NULL: the root.';
COMMENT ON COLUMN tags.category_all_models."shown_as_wnid" IS 'Of the categories with the same labels, the one that is shown as a tag; its own wnid, mostly.';
COMMENT ON COLUMN tags.category_all_models."l1" IS 'Name of the broadest telling category (one that may be a tag) around it in the display tree, or its own: animal, food. NULL: it is broader than any.';
COMMENT ON COLUMN tags.category_all_models."l2" IS 'The next telling category below l1, toward this one, or its own name. NULL: it lies higher.';
COMMENT ON COLUMN tags.category_all_models."l3" IS 'The next telling category below l2. NULL: it lies higher.';
COMMENT ON COLUMN tags.category_all_models."l4" IS 'The next telling category below l3. NULL: it lies higher.';

COMMENT ON VIEW tags.category_closure IS 'Every pair of a category and one at or above it, along all edges of the graph, of the active model''s taxonomy. Grain: one row per pair; distance 0 included, so that a join takes in the category itself.';
COMMENT ON COLUMN tags.category_closure."ancestor" IS 'Node of the upper category.';
COMMENT ON COLUMN tags.category_closure."descendant" IS 'Node of the lower category.';
COMMENT ON COLUMN tags.category_closure."distance" IS 'Fewest edges between the two; 0: the same category.';
COMMENT ON COLUMN tags.category_closure."ancestor_wnid" IS 'Its synset id.';
COMMENT ON COLUMN tags.category_closure."ancestor_name" IS 'Its name.';
COMMENT ON COLUMN tags.category_closure."descendant_wnid" IS 'Its synset id.';
COMMENT ON COLUMN tags.category_closure."descendant_name" IS 'Its name.';

COMMENT ON VIEW tags.photo IS 'Photos that are at their place, with what the active model says. Grain: one row per photo. Without those gone from their source and those of users who are being erased.';
COMMENT ON COLUMN tags.photo."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.photo."model_id" IS 'The model. Of photos that it has not seen, too.';
COMMENT ON COLUMN tags.photo."photo_id" IS 'The photo; never reused.';
COMMENT ON COLUMN tags.photo."user" IS 'Whose photo it is. Users who are being erased are in no row.';
COMMENT ON COLUMN tags.photo."bucket" IS 'Where it lies: s3://name, or file:// for local files.';
COMMENT ON COLUMN tags.photo."key" IS 'Its key there, or its absolute path.';
COMMENT ON COLUMN tags.photo."taken_at" IS 'When it was taken, as well as is known.';
COMMENT ON COLUMN tags.photo."taken_from" IS 'Who says so: exif, manifest, or object (the time of the object, where nobody knew better).';
COMMENT ON COLUMN tags.photo."listed_at" IS 'When it was first listed.';
COMMENT ON COLUMN tags.photo."outcome" IS 'tagged (also where the policy hides every tag), abstained (seen, nothing certain enough), failed, or awaiting (no result of this model yet).';
COMMENT ON COLUMN tags.photo."reason" IS 'Why it failed; see tags.reason. NULL: it has not.';
COMMENT ON COLUMN tags.photo."headline_node" IS 'Node of the headline. NULL as headline.';
COMMENT ON COLUMN tags.photo."headline_wnid" IS 'Synset id of the headline. NULL as headline.';
COMMENT ON COLUMN tags.photo."headline" IS 'Name of the one decided tag. NULL: abstained, failed, awaiting, or the policy hides it.';
COMMENT ON COLUMN tags.photo."stale" IS 'Whether the result is of older bytes than the photo has now.';
COMMENT ON COLUMN tags.photo."decision_revision" IS 'Revision of the decision that gave the tags. NULL: awaiting.';

COMMENT ON VIEW tags.photo_all_models IS 'The same for every model, whether it has seen the photo or not. Grain: one row per model and photo.';
COMMENT ON COLUMN tags.photo_all_models."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.photo_all_models."model_id" IS 'The model. Of photos that it has not seen, too.';
COMMENT ON COLUMN tags.photo_all_models."photo_id" IS 'The photo; never reused.';
COMMENT ON COLUMN tags.photo_all_models."user" IS 'Whose photo it is. Users who are being erased are in no row.';
COMMENT ON COLUMN tags.photo_all_models."bucket" IS 'Where it lies: s3://name, or file:// for local files.';
COMMENT ON COLUMN tags.photo_all_models."key" IS 'Its key there, or its absolute path.';
COMMENT ON COLUMN tags.photo_all_models."taken_at" IS 'When it was taken, as well as is known.';
COMMENT ON COLUMN tags.photo_all_models."taken_from" IS 'Who says so: exif, manifest, or object (the time of the object, where nobody knew better).';
COMMENT ON COLUMN tags.photo_all_models."listed_at" IS 'When it was first listed.';
COMMENT ON COLUMN tags.photo_all_models."outcome" IS 'tagged (also where the policy hides every tag), abstained (seen, nothing certain enough), failed, or awaiting (no result of this model yet).';
COMMENT ON COLUMN tags.photo_all_models."reason" IS 'Why it failed; see tags.reason. NULL: it has not.';
COMMENT ON COLUMN tags.photo_all_models."headline_node" IS 'Node of the headline. NULL as headline.';
COMMENT ON COLUMN tags.photo_all_models."headline_wnid" IS 'Synset id of the headline. NULL as headline.';
COMMENT ON COLUMN tags.photo_all_models."headline" IS 'Name of the one decided tag. NULL: abstained, failed, awaiting, or the policy hides it.';
COMMENT ON COLUMN tags.photo_all_models."stale" IS 'Whether the result is of older bytes than the photo has now.';
COMMENT ON COLUMN tags.photo_all_models."decision_revision" IS 'Revision of the decision that gave the tags. NULL: awaiting.';

COMMENT ON VIEW tags.photo_tag IS 'Shown tags of the active model. Grain: one row per photo and tag; a photo has a tag for the dog and for the animal. Do not count rows to count photos.';
COMMENT ON COLUMN tags.photo_tag."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.photo_tag."model_id" IS 'The model.';
COMMENT ON COLUMN tags.photo_tag."user" IS 'Whose photo it is. Users who are being erased are in no row.';
COMMENT ON COLUMN tags.photo_tag."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.photo_tag."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.photo_tag."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.photo_tag."photo_id" IS 'The photo.';
COMMENT ON COLUMN tags.photo_tag."probability" IS 'Probability that the photo shows it, 0 to 1, in steps of 0.0001. Comes down to the parts of the photo that the policy does not hide.';
COMMENT ON COLUMN tags.photo_tag."headline" IS 'Whether it is the photo''s one decided tag.';
COMMENT ON COLUMN tags.photo_tag."key" IS 'The photo''s key at its place, or its absolute path.';
COMMENT ON COLUMN tags.photo_tag."taken_at" IS 'When the photo was taken, as well as is known.';

COMMENT ON VIEW tags.photo_tag_all_models IS 'Shown tags of every model. Grain: one row per model, photo and tag.';
COMMENT ON COLUMN tags.photo_tag_all_models."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.photo_tag_all_models."model_id" IS 'The model.';
COMMENT ON COLUMN tags.photo_tag_all_models."user" IS 'Whose photo it is. Users who are being erased are in no row.';
COMMENT ON COLUMN tags.photo_tag_all_models."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.photo_tag_all_models."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.photo_tag_all_models."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.photo_tag_all_models."photo_id" IS 'The photo.';
COMMENT ON COLUMN tags.photo_tag_all_models."probability" IS 'Probability that the photo shows it, 0 to 1, in steps of 0.0001. Comes down to the parts of the photo that the policy does not hide.';
COMMENT ON COLUMN tags.photo_tag_all_models."headline" IS 'Whether it is the photo''s one decided tag.';
COMMENT ON COLUMN tags.photo_tag_all_models."key" IS 'The photo''s key at its place, or its absolute path.';
COMMENT ON COLUMN tags.photo_tag_all_models."taken_at" IS 'When the photo was taken, as well as is known.';

COMMENT ON VIEW tags.user_category IS 'Exact totals of each user under the active model, kept up to date by every merge. Grain: one row per user and category; none without mass.';
COMMENT ON COLUMN tags.user_category."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.user_category."model_id" IS 'The model.';
COMMENT ON COLUMN tags.user_category."user" IS 'Whose photo it is. Users who are being erased are in no row.';
COMMENT ON COLUMN tags.user_category."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.user_category."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.user_category."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.user_category."photos" IS 'Distinct photos that carry the tag; 0 of a category that is never a tag, as where another with the same labels is shown in its place (category.shown_as_wnid). NOT additive over categories: a photo of a dog and a cat is one photo of animals. Additive over users.';
COMMENT ON COLUMN tags.user_category."mass" IS 'Expected photos: sum over photos of the probability, in photos, 4 decimals. ADDITIVE over categories that share no label, over users and months; the root''s is the number of photos. Parts below 2 % of a photo are left out.';

COMMENT ON VIEW tags.user_category_all_models IS 'The same under every model. Grain: one row per model, user and category.';
COMMENT ON COLUMN tags.user_category_all_models."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.user_category_all_models."model_id" IS 'The model.';
COMMENT ON COLUMN tags.user_category_all_models."user" IS 'Whose photo it is. Users who are being erased are in no row.';
COMMENT ON COLUMN tags.user_category_all_models."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.user_category_all_models."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.user_category_all_models."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.user_category_all_models."photos" IS 'Distinct photos that carry the tag; 0 of a category that is never a tag, as where another with the same labels is shown in its place (category.shown_as_wnid). NOT additive over categories: a photo of a dog and a cat is one photo of animals. Additive over users.';
COMMENT ON COLUMN tags.user_category_all_models."mass" IS 'Expected photos: sum over photos of the probability, in photos, 4 decimals. ADDITIVE over categories that share no label, over users and months; the root''s is the number of photos. Parts below 2 % of a photo are left out.';

COMMENT ON VIEW tags.user_category_monthly IS 'Totals of each user by month, under the active model, computed from the photos when asked: name a user or a month. Grain: one row per user, month and category. Its months add up to user_category.';
COMMENT ON COLUMN tags.user_category_monthly."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.user_category_monthly."model_id" IS 'The model.';
COMMENT ON COLUMN tags.user_category_monthly."user" IS 'Whose photo it is. Users who are being erased are in no row.';
COMMENT ON COLUMN tags.user_category_monthly."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.user_category_monthly."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.user_category_monthly."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.user_category_monthly."photos" IS 'Distinct photos that carry the tag; 0 of a category that is never a tag, as where another with the same labels is shown in its place (category.shown_as_wnid). NOT additive over categories: a photo of a dog and a cat is one photo of animals. Additive over users.';
COMMENT ON COLUMN tags.user_category_monthly."mass" IS 'Expected photos: sum over photos of the probability, in photos, 4 decimals. ADDITIVE over categories that share no label, over users and months; the root''s is the number of photos. Parts below 2 % of a photo are left out.';
COMMENT ON COLUMN tags.user_category_monthly."month" IS 'First day of the month in which the photos were taken, in UTC.';

COMMENT ON VIEW tags.category_total IS 'Exact totals over all users under the active model. Grain: one row per category; none without mass. The count of a category and all below it is its own `photos`.';
COMMENT ON COLUMN tags.category_total."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.category_total."model_id" IS 'The model.';
COMMENT ON COLUMN tags.category_total."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.category_total."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.category_total."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.category_total."photos" IS 'Distinct photos that carry the tag; 0 of a category that is never a tag, as where another with the same labels is shown in its place (category.shown_as_wnid). NOT additive over categories: a photo of a dog and a cat is one photo of animals.';
COMMENT ON COLUMN tags.category_total."mass" IS 'Expected photos: sum over photos of the probability, in photos, 4 decimals. ADDITIVE over categories that share no label, over users and months; the root''s is the number of photos. Parts below 2 % of a photo are left out.';

COMMENT ON VIEW tags.category_total_all_models IS 'The same under every model. Grain: one row per model and category.';
COMMENT ON COLUMN tags.category_total_all_models."model" IS 'Name of the model; not unique, model_id is.';
COMMENT ON COLUMN tags.category_total_all_models."model_id" IS 'The model.';
COMMENT ON COLUMN tags.category_total_all_models."node" IS 'Id of the category in this ledger: stable, never reused. Quickest to compare with.';
COMMENT ON COLUMN tags.category_total_all_models."wnid" IS 'Synset id of WordNet 3.0, such as n02084071: what a category is known by anywhere.';
COMMENT ON COLUMN tags.category_total_all_models."name" IS 'The category''s name. Several categories may have the same (crane, cardigan): compare wnid or node.';
COMMENT ON COLUMN tags.category_total_all_models."photos" IS 'Distinct photos that carry the tag; 0 of a category that is never a tag, as where another with the same labels is shown in its place (category.shown_as_wnid). NOT additive over categories: a photo of a dog and a cat is one photo of animals.';
COMMENT ON COLUMN tags.category_total_all_models."mass" IS 'Expected photos: sum over photos of the probability, in photos, 4 decimals. ADDITIVE over categories that share no label, over users and months; the root''s is the number of photos. Parts below 2 % of a photo are left out.';

COMMENT ON VIEW tags.job IS 'Jobs and what became of their photos. Grain: one row per job. total = open + tagged + abstained + failed + skipped_unchanged + duplicate + excluded + cancelled + erased, always.';
COMMENT ON COLUMN tags.job."job_id" IS 'The job.';
COMMENT ON COLUMN tags.job."kind" IS 'Kind of its source: s3, folder, manifest, csv, inventory, events; ledger and decide: photos of the ledger.';
COMMENT ON COLUMN tags.job."source" IS 'Where its photos come from, as it was asked for; the name of a user who is being erased is left out.';
COMMENT ON COLUMN tags.job."model" IS 'Name of the model it is pinned to.';
COMMENT ON COLUMN tags.job."model_id" IS 'The model it is pinned to.';
COMMENT ON COLUMN tags.job."scope" IS 'Which photos: missing, failed, stale or all.';
COMMENT ON COLUMN tags.job."priority" IS 'Higher goes first.';
COMMENT ON COLUMN tags.job."state" IS 'created, running, paused, cancelling; ended: succeeded, succeeded_with_errors, failed, cancelled.';
COMMENT ON COLUMN tags.job."error" IS 'Why it failed or was stopped. NULL: neither.';
COMMENT ON COLUMN tags.job."total" IS 'Entries that its listing met so far. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."open" IS 'Not done yet. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."tagged" IS 'Seen, with at least one tag. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."abstained" IS 'Seen, nothing certain enough. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."failed" IS 'Could not be read or judged; tags.job_item says why. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."skipped_unchanged" IS 'Known already, and as they were. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."duplicate" IS 'Listed twice, or with bytes seen before. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."excluded" IS 'No photos, or not chosen. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."cancelled" IS 'Left out because the job was cancelled. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."erased" IS 'Of users who were erased meanwhile. Additive over jobs as work done; a photo counts in each job that had it.';
COMMENT ON COLUMN tags.job."subtracted" IS 'Photos found gone from the source and subtracted; not part of total.';
COMMENT ON COLUMN tags.job."created_at" IS 'When it was asked for.';
COMMENT ON COLUMN tags.job."started_at" IS 'When its listing began. NULL: not yet.';
COMMENT ON COLUMN tags.job."finished_at" IS 'When it ended. NULL: not yet.';
COMMENT ON COLUMN tags.job."paused_by" IS 'Who paused it. NULL: it is not paused.';
COMMENT ON COLUMN tags.job."paused_at" IS 'Since when. NULL: it is not paused.';
COMMENT ON COLUMN tags.job."pause_reason" IS 'Why. NULL: nobody said, or it is not paused.';
COMMENT ON COLUMN tags.job."pause_until" IS 'When it goes on by itself. NULL: it does not, or it is not paused.';
COMMENT ON COLUMN tags.job."cancelled_by" IS 'Who cancelled it. NULL: nobody.';
COMMENT ON COLUMN tags.job."retry_of" IS 'The job whose failed photos these are. NULL: none.';
COMMENT ON COLUMN tags.job."schedule" IS 'Name of the schedule that started it. NULL: a person did.';

COMMENT ON VIEW tags.job_item IS 'What a job did with each photo, photos gone since included; kept for a while. Grain: one row per job and photo. What a listing left out has no row: tags.job counts it. Jobs of kind decide have none.';
COMMENT ON COLUMN tags.job_item."job_id" IS 'The job.';
COMMENT ON COLUMN tags.job_item."photo_id" IS 'The photo.';
COMMENT ON COLUMN tags.job_item."user" IS 'Whose photo it is. Users who are being erased are in no row.';
COMMENT ON COLUMN tags.job_item."state" IS 'pending, retry, succeeded, failed, skipped_unchanged, duplicate, excluded, cancelled or erased.';
COMMENT ON COLUMN tags.job_item."reason" IS 'Why; see tags.reason. NULL: nothing to say yet.';
COMMENT ON COLUMN tags.job_item."attempts" IS 'How often it was tried; 0: not yet.';
COMMENT ON COLUMN tags.job_item."message" IS 'What went wrong, in one sentence. NULL: nothing.';
COMMENT ON COLUMN tags.job_item."first_retry_at" IS 'Since when infrastructure has been in its way. NULL: it is not.';
COMMENT ON COLUMN tags.job_item."next_attempt_at" IS 'When it is tried again. NULL: it waits for nothing.';

COMMENT ON VIEW tags.incoherence IS 'What must never be: empty, or something is wrong that `pictograph doctor --deep` explains. Reads every result: name one kind, or ask `pictograph doctor --deep`, where there are millions. Grain: one row per finding. Not subject to the policy''s arithmetic, but names no user who is being erased.';
COMMENT ON COLUMN tags.incoherence."kind" IS 'parent below child, root not 10000, total unlike recount, duplicate key, or tag without category.';
COMMENT ON COLUMN tags.incoherence."model_id" IS 'Of which model''s results.';
COMMENT ON COLUMN tags.incoherence."photo_id" IS 'Of which photo. NULL: a total.';
COMMENT ON COLUMN tags.incoherence."user" IS 'Whose total. NULL: a result, or the total of all users.';
COMMENT ON COLUMN tags.incoherence."wnid" IS 'Which category. NULL: none in particular.';
COMMENT ON COLUMN tags.incoherence."detail" IS 'What is so, in masses of ten-thousandths of a photo.';

COMMENT ON VIEW tags.data_quality IS 'How complete and how sound the active model''s results are. Grain: one row per measure and detail. Reads every photo, and for `incoherence` every result: `WHERE measure <> ...` leaves out what you do not want to wait for.';
COMMENT ON COLUMN tags.data_quality."measure" IS 'photos (all), tagged, untagged, awaiting (no result yet), stale (of older bytes), newest job, incoherence (rows of tags.incoherence).';
COMMENT ON COLUMN tags.data_quality."detail" IS 'untagged: the reason; newest job: which, and its state; incoherence: its kind. NULL: nothing to add.';
COMMENT ON COLUMN tags.data_quality."photos" IS 'Distinct photos; of newest job its total, of incoherence its findings. photos = tagged + untagged + awaiting.';
COMMENT ON COLUMN tags.data_quality."moment" IS 'newest job: when it ended, began or was asked for. NULL: a count, which is of now.';

-- ---- functions
COMMENT ON FUNCTION tags.category_id(text) IS 'The node of a synset id, a name or an alias; case, spaces and underscores are alike. An error lists all senses of a word that has several, or near names where there is none. Write (SELECT tags.category_id(''dog'')), which is worked out once.';
COMMENT ON FUNCTION tags.near_names(text) IS 'Up to five names of categories that are spelt alike, the nearest first. NULL: none is near.';
COMMENT ON FUNCTION tags.nodes_below(text) IS 'Nodes of a category and of all below it along any edge, in order. Argument as of category_id.';
COMMENT ON FUNCTION tags.descends_from(smallint, text) IS 'Whether a node is the category of that synset id, name or alias, or lies below it along any edge.';
COMMENT ON FUNCTION tags.descends_from(integer, text) IS 'Whether a node is the category of that synset id, name or alias, or lies below it along any edge.';
COMMENT ON FUNCTION tags.descends_from(text, text) IS 'The same for a category given by synset id, name or alias; quickest with a node.';
COMMENT ON FUNCTION tags.photos_with(text[]) IS 'Photos of the active model that carry all of these tags, each a synset id, name or alias: by the index on tags, one row per photo, in no order. Of several tags, probability is the least.';
