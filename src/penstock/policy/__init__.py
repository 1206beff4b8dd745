"""What may be said: guards over requests and answers, whole or as they are made. Pure.

In: texts with their scope (who said them), as they come or whole; the guards of a request. Out: the texts with what was found masked, or a
rejection, and what was found.

- `recognisers`, `checks`: what is known by itself. `syntax`, `tree`: which patterns can judge a stream.
  `rules`: one pattern, ready to be used.
- `matcher`: the engine, for streams and bodies alike. `channels`: plain texts, and those inside the JSON of tool arguments. `whole`: whole texts.
- `outside`: guards that are asked outside, and what their answers mean; `windows`: how streams are cut for them, `awaiting` (with `held`): streams
  that wait for them, `asking`: whole texts before them, `spelt`: a text as they are shown it.
- `guards`: what a user configured, and which rules hold where.
- `texts`, `bodies`: the texts of whole requests and answers, by protocol; `beside`: what stands beside these; `places`: how all are found.
  `failures`: errors in the place of an answer, `quoted`: what they quote. `tokens`: whether log probabilities spell anything else.
  `alike`: names of a request that a server may read otherwise. `editing` and `edit_*`: the texts of streams, frame by frame, by protocol.

Laws: a stream and a body with the same text are judged the same, however the stream was cut; what is held is bounded; with no match in sight
nothing is held and no frame is touched. Not here: I/O, time, what the client is told of a rejection (`pipeline.guarded`).
"""
