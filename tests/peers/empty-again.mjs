// The least that a Worker can do, with one answer that is given again and again: it has no body.
const answer = new Response(null, { status: 204 });

export default {
  fetch() {
    return answer;
  },
};
