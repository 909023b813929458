# pragma version 0.4.3
"""
The function of Multicall3 that facilitators read several things with.
"""

struct Call:
    target: address
    callData: Bytes[4096]


struct Result:
    success: bool
    returnData: Bytes[1024]


@external
@payable
def tryAggregate(requireSuccess: bool, calls: DynArray[Call, 16]) -> DynArray[Result, 16]:
    results: DynArray[Result, 16] = []
    for call: Call in calls:
        success: bool = False
        answer: Bytes[1024] = b""
        success, answer = raw_call(call.target, call.callData, max_outsize=1024, revert_on_failure=False)
        assert success or not requireSuccess, "Multicall3: call failed"
        results.append(Result(success=success, returnData=answer))
    return results
